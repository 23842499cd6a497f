-- What the search engine reads beside Argilla's own tables. Triggers keep it in step: what is written to a record is
-- found in the same transaction, whoever wrote it, and a crash leaves nothing to repair.

PRAGMA journal_mode = WAL;

-- The version of Argilla whose tables these are.
CREATE TABLE nlp_al_about (argilla TEXT NOT NULL);

-- Pages of records as they were written, as the SDK reads them.
CREATE INDEX nlp_al_records_written ON records (dataset_id, inserted_at);

-- How many answers a record has. Without it SQLite goes through all submitted answers for each record.
CREATE INDEX nlp_al_responses_counted ON responses (record_id, status);

-- What somebody has answered, for their queue, without a look at each answer.
CREATE INDEX nlp_al_responses_given ON responses (user_id, record_id, status);

-- A line a record, in the order in which people are to be asked: by the number `rank` of its metadata, the smallest
-- first; records without one come last, as they were written.
CREATE TABLE nlp_al_queue (
    key INTEGER PRIMARY KEY,
    record_id TEXT NOT NULL UNIQUE,
    dataset_id TEXT NOT NULL,
    status TEXT NOT NULL,
    rank REAL NOT NULL
);
CREATE INDEX nlp_al_queue_order ON nlp_al_queue (dataset_id, status, rank, key, record_id);

-- The words of a record's fields. A field has the column of its place among the fields of its dataset; the last column
-- takes all that come after it.
CREATE VIRTUAL TABLE nlp_al_text USING fts5 (
    dataset, f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, tokenize = "unicode61 remove_diacritics 2"
);

-- The text of a chat is what its turns say and who says it; an image has none. JSON functions cut text off at a NUL.
CREATE VIEW nlp_al_field_text AS
SELECT
    q.key,
    q.record_id,
    q.dataset_id,
    min(11, (
        SELECT count(*) FROM fields AS earlier
        WHERE earlier.dataset_id = f.dataset_id AND (earlier.inserted_at, earlier.id) < (f.inserted_at, f.id)
    )) AS place,
    iif(j.type IN ('array', 'object'),
        (SELECT group_concat(leaf.value, ' ') FROM json_tree(j.value) AS leaf WHERE leaf.type = 'text'),
        j.value) AS text
FROM nlp_al_queue AS q
JOIN records AS r ON r.id = q.record_id
JOIN json_each(replace(r.fields, '\u0000', '\u0020')) AS j
JOIN fields AS f ON f.dataset_id = q.dataset_id AND f.name = j.key
WHERE json_extract(f.settings, '$.type') <> 'image';

CREATE VIEW nlp_al_record_text AS
SELECT
    key,
    record_id,
    dataset_id,
    group_concat(text, ' ') FILTER (WHERE place = 0) AS f0,
    group_concat(text, ' ') FILTER (WHERE place = 1) AS f1,
    group_concat(text, ' ') FILTER (WHERE place = 2) AS f2,
    group_concat(text, ' ') FILTER (WHERE place = 3) AS f3,
    group_concat(text, ' ') FILTER (WHERE place = 4) AS f4,
    group_concat(text, ' ') FILTER (WHERE place = 5) AS f5,
    group_concat(text, ' ') FILTER (WHERE place = 6) AS f6,
    group_concat(text, ' ') FILTER (WHERE place = 7) AS f7,
    group_concat(text, ' ') FILTER (WHERE place = 8) AS f8,
    group_concat(text, ' ') FILTER (WHERE place = 9) AS f9,
    group_concat(text, ' ') FILTER (WHERE place = 10) AS f10,
    group_concat(text, ' ') FILTER (WHERE place = 11) AS f11
FROM nlp_al_field_text
GROUP BY record_id;

CREATE TRIGGER nlp_al_record_written AFTER INSERT ON records BEGIN
    INSERT INTO nlp_al_queue (record_id, dataset_id, status, rank) VALUES (
        new.id, new.dataset_id, new.status,
        iif(json_type(new.metadata, '$.rank') IN ('integer', 'real'), json_extract(new.metadata, '$.rank'), 9e999)
    );
    INSERT INTO nlp_al_text (rowid, dataset, f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11)
    SELECT key, dataset_id, f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11
    FROM nlp_al_record_text WHERE record_id = new.id;
END;

CREATE TRIGGER nlp_al_record_changed AFTER UPDATE OF fields ON records WHEN new.fields <> old.fields BEGIN
    DELETE FROM nlp_al_text WHERE rowid = (SELECT key FROM nlp_al_queue WHERE record_id = new.id);
    INSERT INTO nlp_al_text (rowid, dataset, f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11)
    SELECT key, dataset_id, f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11
    FROM nlp_al_record_text WHERE record_id = new.id;
END;

CREATE TRIGGER nlp_al_record_ranked AFTER UPDATE OF status, metadata ON records BEGIN
    UPDATE nlp_al_queue SET status = new.status, rank =
        iif(json_type(new.metadata, '$.rank') IN ('integer', 'real'), json_extract(new.metadata, '$.rank'), 9e999)
    WHERE record_id = new.id;
END;

CREATE TRIGGER nlp_al_record_gone AFTER DELETE ON records BEGIN
    DELETE FROM nlp_al_text WHERE rowid = (SELECT key FROM nlp_al_queue WHERE record_id = old.id);
    DELETE FROM nlp_al_queue WHERE record_id = old.id;
END;

-- Which vectors have changed, by their row; the arrays that are searched catch up from here.
CREATE TABLE nlp_al_vector_changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    settings_id TEXT NOT NULL,
    vector INTEGER NOT NULL
);

CREATE TRIGGER nlp_al_vector_written AFTER INSERT ON vectors BEGIN
    INSERT INTO nlp_al_vector_changes (settings_id, vector) VALUES (new.vector_settings_id, new.rowid);
END;

CREATE TRIGGER nlp_al_vector_changed AFTER UPDATE OF value ON vectors BEGIN
    INSERT INTO nlp_al_vector_changes (settings_id, vector) VALUES (new.vector_settings_id, new.rowid);
END;

CREATE TRIGGER nlp_al_vector_gone AFTER DELETE ON vectors BEGIN
    INSERT INTO nlp_al_vector_changes (settings_id, vector) VALUES (old.vector_settings_id, old.rowid);
END;
