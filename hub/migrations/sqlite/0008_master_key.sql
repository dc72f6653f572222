-- Which master key the wrapped keys are under: a one-way mark of it. Absent until a hub has served.

CREATE TABLE master_key (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    mark BLOB    NOT NULL
) STRICT;
