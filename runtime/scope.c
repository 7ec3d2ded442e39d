/* scope.c – the tree of cancellation: see task.h. */
#include <stdio.h>

#include "vm.h"

static void link_scope(sr_scope *scope, sr_scope *parent) {
    scope->parent = parent;
    scope->next = parent->children;
    if (scope->next) scope->next->prev = scope;
    parent->children = scope;
}

void sr_scope_init(sr_scope *scope, sr_vm *vm, sr_scope *parent) {
    *scope = (sr_scope){.vm = vm};
    if (parent) link_scope(scope, parent);
}

static void unlink_scope(sr_scope *scope) {
    if (scope->prev)
        scope->prev->next = scope->next;
    else if (scope->parent && scope->parent->children == scope)
        scope->parent->children = scope->next;
    if (scope->next) scope->next->prev = scope->prev;
    scope->next = scope->prev = NULL;
}

sr_kind sr_task_cancelled(const sr_task *task) {
    if (task->scope == task->base && task->cancelled) return task->cancelled;
    return task->scope->cancelled;
}

void sr_scope_push(sr_task *task, sr_scope *scope, bool shield) {
    sr_kind inherited = sr_task_cancelled(task);
    sr_scope *outer = task->scope;
    sr_scope_init(scope, task->vm, outer);
    scope->owner = task;
    scope->shield = shield;
    if (!shield && inherited) {
        scope->cancelled = (uint8_t)inherited;
        scope->why = outer->why ? outer->why : "the task was cancelled";
        scope->seconds = outer->seconds;
    }
    task->scope = scope;
}

static void pop_scope(sr_scope *scope) {
    sr_task *task = scope->owner;
    if (task && task->scope == scope) task->scope = scope->parent;
    scope->owner = NULL;
}

/* Scopes close in reverse order, except a group that was closed late or never: then the
 * scopes above it move to its parent. A second time, or on a root, nothing happens: the
 * task that opened a scope may end before the generator that lies in it is resumed. */
void sr_scope_remove(sr_scope *scope) {
    sr_timer_stop(scope->vm->loop, &scope->timer);
    if (!scope->parent) return;
    while (scope->children) {
        sr_scope *child = scope->children;
        unlink_scope(child);
        link_scope(child, scope->parent);
    }
    pop_scope(scope);
    unlink_scope(scope);
    scope->parent = NULL;
}

void sr_scope_disown(sr_scope *scope) {
    sr_timer_stop(scope->vm->loop, &scope->timer);
    pop_scope(scope);
}

void sr_scope_abandon(sr_scope *top) {
    for (sr_scope *at = top;;) {
        while (at->children)
            at = at->children;
        while (at->tasks)
            sr_task_abandon(at->tasks);
        if (at == top) break;
        sr_scope *parent = at->parent;
        at->owner = NULL;
        sr_scope_remove(at);
        at = parent;
    }
    sr_timer_stop(top->vm->loop, &top->timer);
}

/* A generator that yields inside task.timeout or task.shield takes these scopes along, so
 * that its deadline does not bind whoever asked it for a value. A group stays: its tasks
 * belong to the task that opened it, which cannot end before them. */
sr_scope *sr_scope_detach(sr_task *task, const sr_scope *outer) {
    sr_scope *top = task->scope;
    for (sr_scope *at = top; at != outer; at = at->parent)
        if (at == task->base || at->is_group) return NULL;
    if (top == outer) return NULL;
    while (task->scope != outer) {
        top->bottom = task->scope;
        pop_scope(task->scope);
    }
    return top;
}

void sr_scope_attach(sr_task *task, sr_scope *top) {
    sr_scope *bottom = top->bottom;
    sr_kind cancelled = sr_task_cancelled(task);
    for (sr_scope *at = top;; at = at->parent) {
        at->owner = task;
        if (at == bottom) break;
    }
    unlink_scope(bottom);
    link_scope(bottom, task->scope);
    if (cancelled && !bottom->shield)
        sr_scope_cancel(bottom, cancelled, task->scope->why, task->scope->seconds);
    task->scope = top;
}

static void on_deadline(sr_timer *timer) {
    sr_scope *scope = (sr_scope *)((char *)timer - offsetof(sr_scope, timer));
    sr_scope_cancel(scope, SR_TIMEOUT, NULL, scope->seconds);
}

void sr_scope_deadline(sr_scope *scope, double seconds) {
    sr_loop *loop = scope->vm->loop;
    scope->seconds = seconds;
    int64_t due = sr_mono_after(loop, seconds);
    /* Without memory for the timer the deadline counts as passed, which is safe. */
    if (sr_timer_start(loop, &scope->timer, due, on_deadline) != 0)
        sr_scope_cancel(scope, SR_TIMEOUT, NULL, seconds);
}

static void mark_cancelled(sr_scope *scope, sr_kind kind, const char *why,
                           double seconds) {
    scope->cancelled = (uint8_t)kind;
    scope->why = why;
    scope->seconds = seconds;
    for (sr_task *task = scope->tasks; task; task = task->next_task)
        if (task->scope == scope) sr_task_interrupt(task);
}

/* The first of these siblings that a cancellation enters, or NULL. */
static sr_scope *first_open(sr_scope *scope) {
    while (scope && (scope->shield || scope->cancelled))
        scope = scope->next;
    return scope;
}

/* Down the tree without recursion (a script nests as deep as it likes): a scope's tasks
 * first, then what is below it, its owner last. */
void sr_scope_cancel(sr_scope *top, sr_kind kind, const char *why, double seconds) {
    if (top->cancelled) return;
    mark_cancelled(top, kind, why, seconds);
    for (sr_scope *at = top, *next;; at = next) {
        next = first_open(at->children);
        while (!next) {
            if (at->owner && at->owner->scope == at) sr_task_interrupt(at->owner);
            if (at == top) return;
            next = first_open(at->next);
            if (!next) at = at->parent;
        }
        mark_cancelled(next, kind, why, seconds);
    }
}

void sr_task_cancel(sr_task *task, const char *why) {
    if (task->cancelled || task->state == TASK_DONE) return;
    task->cancelled = SR_CANCELLED;
    sr_scope *own = task->scope;
    if (own == task->base) {
        sr_task_interrupt(task);
        return;
    }
    while (own->parent != task->base)
        own = own->parent;
    if (!own->shield) sr_scope_cancel(own, SR_CANCELLED, why, 0);
}

void sr_task_cancel_err(const sr_task *task, sr_err *err) {
    const sr_scope *scope = task->scope;
    if (sr_task_cancelled(task) == SR_TIMEOUT) {
        sr_fail(err, SR_TIMEOUT, NULL, "timed out: its %g s are over", scope->seconds);
        err->retryable = true;
    } else {
        sr_fail(err, SR_CANCELLED, NULL, "cancelled: %s",
                scope->cancelled && scope->why ? scope->why : "the task was cancelled");
    }
}
