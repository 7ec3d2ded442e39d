/* scope.c – the tree of cancellation: see task.h. */
#include <stdio.h>

#include "vm.h"

void sr_scope_init(sr_scope *scope, sr_vm *vm, sr_scope *parent) {
    *scope = (sr_scope){.vm = vm, .parent = parent};
    if (!parent) return;
    scope->next = parent->children;
    if (scope->next) scope->next->prev = scope;
    parent->children = scope;
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

/* Scopes close in reverse order, except a group that was closed late or never: then the
 * scopes above it move to its parent. */
void sr_scope_remove(sr_scope *scope) {
    sr_task *task = scope->owner;
    sr_timer_stop(scope->vm->loop, &scope->timer);
    while (scope->children) {
        sr_scope *child = scope->children;
        unlink_scope(child);
        child->parent = scope->parent;
        child->next = scope->parent->children;
        if (child->next) child->next->prev = child;
        scope->parent->children = child;
    }
    if (task && task->scope == scope) task->scope = scope->parent;
    unlink_scope(scope);
    scope->owner = NULL;
}

static void on_deadline(sr_timer *timer) {
    sr_scope *scope = (sr_scope *)((char *)timer - offsetof(sr_scope, timer));
    sr_scope_cancel(scope, SR_TIMEOUT, NULL, scope->seconds);
}

void sr_scope_deadline(sr_scope *scope, double seconds) {
    sr_loop *loop = scope->vm->loop;
    scope->seconds = seconds;
    int64_t due = sr_mono(loop) + (int64_t)(seconds * (double)SR_NS);
    /* Without memory for the timer the deadline counts as passed, which is safe. */
    if (sr_timer_start(loop, &scope->timer, due, on_deadline) != 0)
        sr_scope_cancel(scope, SR_TIMEOUT, NULL, seconds);
}

void sr_scope_cancel(sr_scope *scope, sr_kind kind, const char *why, double seconds) {
    if (scope->cancelled) return;
    scope->cancelled = (uint8_t)kind;
    scope->why = why;
    scope->seconds = seconds;
    for (sr_task *task = scope->tasks; task; task = task->next_task)
        if (task->scope == scope) sr_task_interrupt(task);
    for (sr_scope *child = scope->children; child; child = child->next)
        if (!child->shield) sr_scope_cancel(child, kind, why, seconds);
    if (scope->owner && scope->owner->scope == scope) sr_task_interrupt(scope->owner);
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
