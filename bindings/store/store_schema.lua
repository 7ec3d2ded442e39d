--- The schema of the store, as the list of its versions. Each owner of tables adds entries of
--- its own, with the next free number; an entry that was released is never changed.
--
-- The SQL is portable (SQLite, PostgreSQL), several statements separated by semicolons. Types:
-- TEXT (ids, JSON, base64), BIGINT (times in ms, counts, booleans), DOUBLE PRECISION.

return {
}
