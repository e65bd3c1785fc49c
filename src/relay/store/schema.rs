//! The tables, and how an older file is brought up to date.

#[cfg(test)]
#[path = "plans.rs"]
mod plans;

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

const TABLES: &str = "
-- Single facts: the long-poll marker, the outbox cursor, when the store was made.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One row per customer; `dialog` is the state machine of `policy`.
CREATE TABLE customer (
    id             INTEGER PRIMARY KEY,            -- user id in MAX
    chat_id        INTEGER,                        -- the dialog's chat in MAX, once seen
    name           TEXT NOT NULL DEFAULT '',
    dialog         TEXT NOT NULL DEFAULT '{}',
    due_at         INTEGER,                        -- when the dialog wants a tick
    open           INTEGER NOT NULL DEFAULT 0,
    barrier        INTEGER NOT NULL DEFAULT 0,     -- grows with each closing or hand-over: messages never pass one
    taken_at       INTEGER,                        -- (timestamp, seq) of the newest customer message the lane has taken
    taken_seq      INTEGER,
    delivered_at   INTEGER,                        -- (timestamp, seq) of the newest customer message the CRM has
    delivered_seq  INTEGER,
    crm_timestamp  INTEGER NOT NULL DEFAULT 0,     -- the last timestamp of an accepted incoming call; the next is greater
    bot_seq        INTEGER,                        -- seq of the newest message of the bot's that we know in this dialog
    read_back      INTEGER NOT NULL DEFAULT -1     -- the gap up to which this dialog was read back
);
CREATE INDEX customer_due ON customer (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX customer_open ON customer (open) WHERE open = 1;

-- Updates of MAX as they came in.
CREATE TABLE inbox (
    id          INTEGER PRIMARY KEY,
    key         TEXT NOT NULL UNIQUE,              -- what is the same however often it comes
    customer    INTEGER,                           -- NULL: whose it is cannot be told
    at          INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    raw         TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    done        INTEGER NOT NULL DEFAULT 0         -- 1: taken; 2: an edit or removal that the agents have not been shown
);
CREATE INDEX inbox_open ON inbox (customer, at, seq, id) WHERE done = 0;
CREATE INDEX inbox_age ON inbox (received_at);

-- One queue per customer towards the CRM: receive, history, hand-over, close.
CREATE TABLE to_crm (
    id         INTEGER PRIMARY KEY,
    customer   INTEGER NOT NULL,
    body       TEXT NOT NULL,                      -- JSON, a `CrmTask`
    attempted  INTEGER NOT NULL DEFAULT 0,         -- 1: may have taken effect, so nothing passes it any more
    attempts   INTEGER NOT NULL DEFAULT 0,
    barrier    INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    timestamp  INTEGER,                            -- as sent, once attempted: a repeat says the same
    dead       INTEGER NOT NULL DEFAULT 0,
    error      TEXT,
    created_at INTEGER NOT NULL
);
CREATE INDEX to_crm_open ON to_crm (customer, attempted DESC, barrier, at, seq, id) WHERE dead = 0;
CREATE INDEX to_crm_age ON to_crm (created_at) WHERE dead = 0;

-- One queue per customer towards MAX.
CREATE TABLE to_max (
    id         INTEGER PRIMARY KEY,
    customer   INTEGER NOT NULL,
    origin     TEXT NOT NULL,                      -- JSON: whose words these are, and what is to be told when they are out
    parts      TEXT NOT NULL,                      -- JSON array; each part is one send
    part       INTEGER NOT NULL DEFAULT 0,         -- the part that is next
    sending    TEXT,                               -- JSON, while a send may be under way: written before the POST
    attempts   INTEGER NOT NULL DEFAULT 0,
    state      TEXT NOT NULL DEFAULT 'queued',     -- queued, sent, failed, uncertain
    error      TEXT,
    recorded   INTEGER NOT NULL DEFAULT 0,         -- 1: its entry in the CRM's history is made or not wanted
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE INDEX to_max_open ON to_max (customer, id) WHERE state = 'queued';
CREATE INDEX to_max_unrecorded ON to_max (customer, id) WHERE recorded = 0 AND state IN ('sent', 'uncertain');
CREATE INDEX to_max_ended ON to_max (ended_at) WHERE ended_at IS NOT NULL;

-- The bot's messages in MAX that are ours, so that a look back tells them from one that we lost sight of.
CREATE TABLE sent (
    mid      TEXT PRIMARY KEY,
    customer INTEGER NOT NULL,
    at       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sent_age ON sent (at);

-- Rows of the CRM's outbox that were taken.
CREATE TABLE outbox (
    id       TEXT PRIMARY KEY,
    report   TEXT,                                 -- JSON: what is to be reported; NULL while it is under way
    reported INTEGER NOT NULL DEFAULT 0,          -- when it was; 0: not yet
    attempts INTEGER NOT NULL DEFAULT 0,
    taken_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX outbox_report ON outbox (taken_at) WHERE report IS NOT NULL AND reported = 0;
CREATE INDEX outbox_age ON outbox (reported) WHERE reported > 0;

-- Questions to a bot, one queue per customer.
CREATE TABLE to_bot (
    id         INTEGER PRIMARY KEY,
    customer   INTEGER NOT NULL,
    body       TEXT NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
);
CREATE INDEX to_bot_open ON to_bot (customer, id);

-- A closing is keyed by its chat, so that two reports of one closing are one.
CREATE TABLE closing (
    chat TEXT PRIMARY KEY,
    at   INTEGER NOT NULL
) WITHOUT ROWID;
";

/// What is missing, what is counted, and what is looked up by age.
const GAPS_AND_COUNTS: &str = "
-- What MAX may not have brought: each row says from when on.
CREATE TABLE gap (
    id       INTEGER PRIMARY KEY,                  -- grows; customer.read_back names the newest that is closed
    since    INTEGER NOT NULL,                     -- when it began, by the time of MAX
    lasting  INTEGER NOT NULL,                     -- 1: MAX does not repeat it
    noted_at INTEGER NOT NULL
);
-- Nothing is missing up to here in a store of before.
INSERT INTO gap (id, since, lasting, noted_at)
    SELECT coalesce(max(read_back), 0), 9223372036854775807, 0, 0 FROM customer;

-- From when on, by the time of MAX, messages of the customer's may be read back; NULL: no update of theirs was taken.
ALTER TABLE customer ADD COLUMN known_at INTEGER;
UPDATE customer SET known_at =
    (SELECT coalesce(max(CAST(value AS INTEGER)), 0) FROM meta WHERE key IN ('made_at', 'erased_at'));

-- Keys of updates of somebody who was erased, as digests: MAX may repeat them.
CREATE TABLE erased (
    digest BLOB PRIMARY KEY,
    at     INTEGER NOT NULL
) WITHOUT ROWID;

-- Kept counts, so that nobody who asks for them holds the writer.
CREATE TABLE tally (
    name  TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO tally (name, count) VALUES
    ('dead', (SELECT count(*) FROM to_crm WHERE dead = 1) + (SELECT count(*) FROM to_max WHERE state = 'failed')),
    ('open', (SELECT count(*) FROM customer WHERE open = 1));

CREATE TRIGGER to_crm_tally_insert AFTER INSERT ON to_crm WHEN new.dead = 1 BEGIN
    UPDATE tally SET count = count + 1 WHERE name = 'dead';
END;
CREATE TRIGGER to_crm_tally_update AFTER UPDATE OF dead ON to_crm WHEN new.dead <> old.dead BEGIN
    UPDATE tally SET count = count + new.dead - old.dead WHERE name = 'dead';
END;
CREATE TRIGGER to_crm_tally_delete AFTER DELETE ON to_crm WHEN old.dead = 1 BEGIN
    UPDATE tally SET count = count - 1 WHERE name = 'dead';
END;
CREATE TRIGGER to_max_tally_insert AFTER INSERT ON to_max WHEN new.state = 'failed' BEGIN
    UPDATE tally SET count = count + 1 WHERE name = 'dead';
END;
CREATE TRIGGER to_max_tally_update AFTER UPDATE OF state ON to_max WHEN (new.state = 'failed') <> (old.state = 'failed') BEGIN
    UPDATE tally SET count = count + (new.state = 'failed') - (old.state = 'failed') WHERE name = 'dead';
END;
CREATE TRIGGER to_max_tally_delete AFTER DELETE ON to_max WHEN old.state = 'failed' BEGIN
    UPDATE tally SET count = count - 1 WHERE name = 'dead';
END;
CREATE TRIGGER customer_tally_insert AFTER INSERT ON customer WHEN new.open = 1 BEGIN
    UPDATE tally SET count = count + 1 WHERE name = 'open';
END;
CREATE TRIGGER customer_tally_update AFTER UPDATE OF open ON customer WHEN new.open <> old.open BEGIN
    UPDATE tally SET count = count + new.open - old.open WHERE name = 'open';
END;
CREATE TRIGGER customer_tally_delete AFTER DELETE ON customer WHEN old.open = 1 BEGIN
    UPDATE tally SET count = count - 1 WHERE name = 'open';
END;

CREATE INDEX inbox_waiting ON inbox (received_at) WHERE done = 0;
CREATE INDEX to_max_waiting ON to_max (created_at) WHERE state = 'queued';
CREATE INDEX to_crm_dead ON to_crm (id) WHERE dead = 1;
CREATE INDEX to_max_dead ON to_max (id) WHERE state IN ('failed', 'uncertain');
";

/// The order of what only names a moment: `newest` is the newest message or press of the
/// customer's, behind which the history goes; `presence_at` the newest start, message, press or
/// departure, by MAX's clock.
const ORDER: &str = "
ALTER TABLE customer ADD COLUMN newest_at INTEGER;
ALTER TABLE customer ADD COLUMN newest_seq INTEGER;
ALTER TABLE customer ADD COLUMN presence_at INTEGER;
CREATE INDEX customer_chat ON customer (chat_id) WHERE chat_id IS NOT NULL;
";

/// Sends that are uncertain because their dialog is not known: they are looked for once it is.
const UNSEEN: &str = "
CREATE INDEX to_max_unseen ON to_max (customer) WHERE state = 'uncertain' AND sending IS NOT NULL;
";

/// Messages that came both ways: `twin` of one that MANGO OFFICE brought names the row of MAX's.
const TWINS: &str = "
ALTER TABLE inbox ADD COLUMN twin INTEGER;
CREATE INDEX inbox_customer ON inbox (customer, at);
";

/// What is looked up in tables that grow with the messages, and was looked for in all of them.
const FOUND: &str = "
CREATE INDEX to_max_sent ON to_max (customer) WHERE state = 'sent';
CREATE INDEX closing_age ON closing (at);
CREATE INDEX erased_age ON erased (at);
CREATE INDEX mango_session_chat ON mango_session (chat) WHERE chat IS NOT NULL;
CREATE INDEX mango_session_untold ON mango_session (id) WHERE open = 0
    AND CASE WHEN json_valid(body) THEN json_extract(body, '$.told') END = 0;
CREATE INDEX mango_session_over ON mango_session (CASE WHEN json_valid(body) THEN json_extract(body, '$.closedAt') END)
    WHERE open = 0 AND CASE WHEN json_valid(body) THEN json_extract(body, '$.told') END = 1;
";

/// One step per released change; what was released is never changed.
const STEPS: [&str; 8] =
    [TABLES, GAPS_AND_COUNTS, ORDER, super::mango::TABLES, UNSEEN, TWINS, super::receipt::TABLES, FOUND];

/// The newest format of a store that this program knows. A file names its own in `user_version`.
pub(super) const FORMAT: usize = STEPS.len();

/// Brings the file up to date.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), rusqlite_migration::Error> {
    migrate_to(connection, FORMAT)
}

/// Brings the file to that format and no further.
pub(super) fn migrate_to(connection: &mut Connection, format: usize) -> Result<(), rusqlite_migration::Error> {
    Migrations::new(STEPS.into_iter().map(M::up).collect()).to_version(connection, format)
}

/// The format of a file that is newer than this program.
pub(super) fn newer(connection: &Connection) -> rusqlite::Result<Option<usize>> {
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(format).ok().filter(|format| *format > FORMAT))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::contract::digest;

    /// Stores out there have been through these. A change of the tables is a step of its own.
    #[test]
    fn a_step_that_was_released_is_never_changed() {
        let digests = STEPS.map(|step| digest::hex(&Sha256::digest(step.as_bytes())[..4]));
        assert_eq!(
            digests,
            ["e24910b6", "9121b894", "6fe4e286", "48bd7e79", "bb05a17a", "f6230512", "14d652c3", "98d83a20"]
        );
    }
}
