//! What the doctor says of each finding: why it matters, and what to do.

use serde::Serialize;

/// How bad a finding is. The worst come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Calls fail, or keys are not what they should be.
    Error,
    /// It may hurt, or costs throughput.
    Warning,
    /// Good to know.
    Notice,
}

/// What is said of a finding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Advice {
    pub(super) severity: Severity,
    pub(super) title: &'static str,
    pub(super) why: &'static str,
    pub(super) what_to_do: &'static str,
}

/// The only list of findings: name, severity, title, why it matters, what to do.
macro_rules! advice {
    ($($check:literal => $severity:ident, $title:literal, $why:literal, $what:literal;)*) => {
        /// What is said of a finding of that name.
        pub(super) fn advice(check: &str) -> Advice {
            match check {
                $($check => Advice {
                    severity: Severity::$severity, title: $title, why: $why, what_to_do: $what,
                },)*
                // A newer engine may find more.
                _ => Advice {
                    severity: Severity::Warning,
                    title: "Something is not as it should be",
                    why: "This version has no more to say of it.",
                    what_to_do: "Look at what was found.",
                },
            }
        }

        /// Every finding that there is advice for.
        #[cfg(test)]
        pub(super) const CHECKS: &[&str] = &[$($check,)*];
    };
}

advice! {
    // The server and the session.
    "old_version" => Error, "The server is too old",
        "agentkey needs PostgreSQL 13 or later: statements fail, or wait where they should not.",
        "Upgrade the server.";
    "standby" => Error, "The server takes no writes",
        "It is a standby: keys can be looked up, but no charge, reservation or revocation is recorded.",
        "Connect to the primary. Several hosts in the URL let the Rust and Python clients find it.";
    "read_only" => Error, "Transactions are read-only",
        "Keys can be looked up, but no charge, reservation or revocation is recorded.",
        "Take the setting back, then connect again.";
    "isolation" => Warning, "Transactions are not READ COMMITTED",
        "Charges of one key that meet fail with serialization errors and are tried again, which costs throughput.",
        "Set it for the role, then connect again.";
    "statement_timeout" => Warning, "Statements are ended early",
        "Calls wait up to 10 s for a locked row. A statement that is ended sooner fails all the calls in it.",
        "Allow more time for the role, then connect again.";
    "encoding" => Warning, "The database is not encoded in UTF-8",
        "Names, scopes and metadata with other characters are refused by the database, and fail their calls.",
        "Move to a database that was created with ENCODING 'UTF8'.";
    "not_durable" => Warning, "Commits may be lost in a crash",
        "A charge that was acknowledged may be gone after the server crashed, and its budget is free again.",
        "Switch it on, unless you can bear that.";
    "autovacuum" => Warning, "Autovacuum is off",
        "Every charge leaves a dead row. Without a vacuum the table grows and charges get slower without an end.",
        "Switch it on.";
    "clock" => Warning, "The clocks differ",
        "Budgets and expiries go by the database's clock. Times that this machine works out are off by as much.",
        "Synchronise both machines' clocks (NTP).";
    "rows_unread" => Error, "The rows could not be looked at",
        "What is wrong with keys and reservations stays unknown, and calls may fail for the same reason.",
        "Put the other findings right first; if the table is not migrated, run `agentkey migrate`. Then ask again.";

    // The tables.
    "no_table" => Error, "There is no keys table",
        "Every call fails.",
        "Run `agentkey migrate`, or give the right name with --table.";
    "not_a_table" => Error, "The keys table is no table",
        "Rows of it cannot be locked, so that no budget would be safe.",
        "Give the table itself with --table.";
    "shadowed_table" => Notice, "Other schemas have a table of that name",
        "Which one is used depends on search_path: clients with another one use other keys.",
        "Name the schema: --table schema.table, and `tableName` in every client.";
    "not_keys_table" => Error, "The table is no keys table",
        "Every call fails.",
        "Give the right table with --table, or add the columns as docs/operations.md lists them.";
    "missing_column" => Error, "A column is missing",
        "Calls fail with migration_required: without the column a key might do more than it may.",
        "Run `agentkey migrate`. If the column was dropped, its values are gone: restore them first.";
    "not_migrated" => Warning, "The table was not migrated",
        "Reservations, children, disabling and the ledger fail with migration_required. Plain keys work.",
        "Run `agentkey migrate`.";
    "missing_companion" => Error, "A companion table is missing",
        "Reservations, idempotency keys, the ledger or increases fail with migration_required, or each process counts signups for itself.",
        "Run `agentkey migrate`. If the table was dropped, restore it first: what it held is unknown to the budgets.";
    "foreign_companion" => Error, "A companion table is not ours",
        "A table of that name is somebody else's, or of an older version. Reservations and the ledger fail.",
        "Run `agentkey migrate`. If it fails, rename the other table.";
    "companion_type" => Error, "A companion's column has another type",
        "The companion is left from another keys table. Reservations and the ledger fail.",
        "Rename the companion, then run `agentkey migrate`.";
    "companion_owner" => Warning, "A companion belongs to another role",
        "A migration by the owner of the keys table fails, and so do calls of roles that were not granted it.",
        "Give it the keys table's owner.";
    "unlogged" => Error, "A table is unlogged",
        "A crash of the server empties it: every key, hold or entry is gone.",
        "Make it a logged one.";
    "row_security" => Error, "Row level security hides rows",
        "Policies apply to this role: keys that they hide are unknown to every call, and inserts may fail.",
        "Take it off, or give the role BYPASSRLS or policies that let it see and write every row.";
    "row_security_of_others" => Notice, "Row level security is on",
        "It does not apply to this role. A client with another role may not see every key.",
        "Nothing, if every client connects as the owner or has BYPASSRLS.";
    "trigger" => Warning, "There is a trigger",
        "It runs for every charge that writes the row. If it raises, the calls in that statement fail.",
        "Look whether it is needed. If not:";
    "rule" => Warning, "There is a rule",
        "It rewrites statements: a charge may be answered as done, and not be.",
        "Use a trigger in its place, and drop it.";
    "privilege" => Error, "The role lacks privileges",
        "Calls that need them fail with 42501.",
        "As the owner:";

    // The columns.
    "column_type" => Error, "A column has the wrong type",
        "Amounts that are no integers cannot be added up exactly, and times without a zone depend on who reads them.",
        "Change the type (it rewrites the table, and times are taken for UTC):";
    "link_type" => Error, "A link to other keys has another type than their ids",
        "Keys with parents fail.",
        "Drop the column if no key has a parent, then run `agentkey migrate`.";
    "small_budget" => Notice, "A budget column is small",
        "Budgets and totals beyond it are refused, also of keys without a budget.",
        "If you need more (it rewrites the table):";
    "scopes_type" => Notice, "Scopes are no array",
        "They are read as lists in several notations, but new keys of other packages may be written differently.",
        "TEXT[] is what `agentkey migrate` would have made.";
    "required_column" => Error, "A column must have a value that new keys do not have",
        "Creating a key fails with 23502.",
        "Give it a default, or allow NULL:";

    // The indexes.
    "missing_index" => Error, "An index is missing",
        "Each call reads the whole table. Where the index is a unique one, two rows may be taken for one key.",
        "Run `agentkey migrate` (writers wait meanwhile), or build it without locking anybody out:";
    "invalid_index" => Error, "An index is invalid",
        "It was not built to its end: it costs every write, and no look-up uses it.",
        "Drop it, then run `agentkey migrate`:";
    "hot_index" => Warning, "An index has a column that every charge writes",
        "Each charge then writes every index of the table, and leaves more for the vacuum.",
        "Drop it, unless you need it:";

    // What goes on now.
    "dead_rows" => Warning, "There are many dead rows",
        "Each look-up and charge reads past them. Autovacuum is too slow, or something keeps it from removing them.",
        "Look for old transactions, then:";
    "lock_holder" => Warning, "A long transaction holds locks on the tables",
        "Charges of the keys that it has locked wait, and the vacuum cannot remove dead rows.",
        "End it where it comes from: commit sooner. If it is lost:";
    "prepared_transaction" => Warning, "A prepared transaction is open",
        "It holds its locks across restarts, until somebody commits it or rolls it back.",
        "If nobody will commit it:";

    // The rows.
    "overflow" => Error, "Budgets or counters are beyond what can be added up",
        "They count as the most that can be. Such a key may spend nothing, whatever its budget says.",
        "Set the counter to what was really spent: `UPDATE ... SET budget_used_cents = ...`.";
    "full_counter" => Error, "Counters are full",
        "A key without a budget still counts what it spends. It is refused, as the column holds no more.",
        "Make budget_used_cents a BIGINT, or set it back to 0.";
    "negative_budget" => Error, "Budgets or holds are below nothing",
        "Such a key is refused, or has more than it should.",
        "Give it a budget: `agentkey update ID --budget-cents ...`; set budget_reserved_cents to 0.";
    "bad_fraction" => Error, "Fractions of a cent are none",
        "budget_used_microcents and budget_reserved_microcents are what is beyond whole cents: less than 1,000,000.",
        "Set them to 0.";
    "null_account" => Warning, "Keys belong to no account",
        "No account can list or revoke them; only somebody who knows their ids can.",
        "Set account_id, or revoke them: `agentkey revoke ID`.";
    "infinite_time" => Error, "Times of a budget never come",
        "The period cannot be worked out: the budget never starts afresh.",
        "Give the period anew: `agentkey update ID --budget-period ...`.";
    "unknown_period" => Error, "Periods are unknown",
        "The budget never starts afresh.",
        "Give one of hour, day, week, month, year: `agentkey update ID --budget-period ...`.";
    "no_reset" => Error, "Periods have no end",
        "budget_reset_at is NULL: the budget never starts afresh.",
        "Give the period anew: `agentkey update ID --budget-period ...`.";
    "broken_chain" => Error, "Ancestors cannot be",
        "The chain has a circle, an ancestor that is gone, or too many. Every call of such a key is refused.",
        "Revoke the key, or set parent_id and ancestor_ids as they were.";
    "wrong_parent" => Error, "The parent is not the first ancestor",
        "What the key spends is counted on ancestor_ids; `list` shows it below parent_id.",
        "Set ancestor_ids to the parent's id, followed by the parent's ancestor_ids.";
    "bad_hash" => Error, "Hashes are none",
        "key_hash is the SHA-256 of the raw key in lower-case hexadecimal. Such a key is never found. A raw key there is a leak.",
        "If it is a raw key, revoke it: it must be taken for known.";
    "bad_scopes" => Error, "Scopes cannot be",
        "An empty or missing name in the list, a list of lists, or no list: the key has fewer scopes than it seems.",
        "Give them anew: `agentkey update ID --scopes a,b`.";
    "stale_hold" => Warning, "Reservations whose time is over hold amounts",
        "Whoever finds them in the way ends them. Until then they count in `list` and `show`.",
        "Run `agentkey sweep`, and from time to time call sweepReservations.";
    "orphan_hold" => Warning, "Reservations are of keys that are gone",
        "Nobody can end them, and nothing they hold is anybody's.",
        "Set their state to 'released'; do not delete keys, revoke them.";
    "wrong_hold" => Error, "What keys hold is not what their reservations say",
        "The key has more or less room than it should: somebody wrote the column or deleted reservations.",
        "Set budget_reserved_cents and budget_reserved_microcents to what `agentkey verify` shows as held by reservations.";
}
