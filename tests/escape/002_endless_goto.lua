-- Attack: A loop without a call, a table or a condition.
::again::
goto again
