//! The statements on the user's table, as text for a table of one shape. Each is a file in `sql/`.

use std::sync::{Arc, OnceLock};

use super::name::{TableName, quote_literal};
use super::scopes::{NAMES_SCOPE, bad_scopes, scopes_array};
use super::shape::{ALARMS, OPTIONAL_COLUMNS, SIGNUPS, TableShape};
use crate::budget::thresholds::Thresholds;
use crate::key::delegation::MAX_ANCESTORS;

/// The column by which a statement finds keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyColumn {
    KeyHash,
    Subject,
    Id,
}

impl KeyColumn {
    pub(crate) const ALL: [KeyColumn; 3] = [KeyColumn::KeyHash, KeyColumn::Subject, KeyColumn::Id];
    /// Those that credentials name.
    pub(crate) const OF_CREDENTIALS: [KeyColumn; 2] = [KeyColumn::KeyHash, KeyColumn::Subject];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            KeyColumn::KeyHash => "key_hash",
            KeyColumn::Subject => "external_subject",
            KeyColumn::Id => "id",
        }
    }
}

/// The only list of statements: what each does, and its file.
macro_rules! statements {
    ($($(#[doc = $doc:literal])* $kind:ident => $file:literal,)*) => {
        /// What a statement does. Drivers need not look at it; logs and a model database do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum StatementKind {
            /// The columns of the keys table.
            Catalogue,
            /// One migration.
            Migrate,
            /// What is wrong with the server, the session and the schema.
            DiagnoseDatabase,
            $($(#[doc = $doc])* $kind,)*
        }

        const TEMPLATES: &[(StatementKind, &str)] =
            &[$((StatementKind::$kind, include_str!(concat!("sql/", $file))),)*];
    };
}

statements! {
    /// A look-up of one key, as its row stands. A key that needs more is decided by `Validate`.
    ValidateOne => "validate_one.sql",
    /// The same for several keys.
    ValidateMany => "validate_many.sql",
    /// The same with the version of each row.
    ValidateVersions => "validate_many.sql",
    /// The same of rows that are remembered: only what changed is answered.
    ValidateChanged => "validate_changed.sql",
    /// Look-ups of keys, whatever they need.
    Validate => "validate.sql",
    /// A look-up of a new key's parent.
    Parent => "validate.sql",
    /// A charge of one key in the common case; no row means that `ChargeBatch` decides.
    ChargeOne => "charge_one.sql",
    /// The same for several keys.
    ChargeMany => "charge_many.sql",
    /// The same where others lock rows: it also says which ones.
    ChargeContended => "charge_many.sql",
    /// Plain charges of keys without parents.
    ChargeBatch => "charge_batch.sql",
    /// The hashes of keys that are named by a secret which was replaced.
    FormerKeys => "former_keys.sql",
    /// The hashes of keys that are named by their ids.
    KeysById => "keys_by_id.sql",
    /// Charges on keys and their ancestors in the common case; `Spend` decides what has no row.
    ChargeTree => "charge_tree.sql",
    /// The same where others lock rows: it also says which ones.
    ChargeTreeContended => "charge_tree.sql",
    /// Charges and reserves with all their options, of keys without parents in the common case; `Spend` decides what has
    /// no row.
    SpendFlat => "spend_flat.sql",
    /// The same also of keys with parents.
    SpendFresh => "spend_fresh.sql",
    /// Charges and reserves with all their options.
    Spend => "spend.sql",
    /// Ends of reservations of keys without parents, in the common case; `Settle` decides what has no row.
    SettleFlat => "settle_flat.sql",
    /// Ends and extensions of reservations.
    Settle => "settle.sql",
    /// A refund.
    Refund => "refund.sql",
    /// A list of reservations whose time is over.
    ExpiredReservations => "expired_reservations.sql",
    /// The same of what is held of one key's budget.
    ExpiredOfKey => "expired_of_key.sql",
    /// `last_used_at` of some keys.
    Touch => "touch.sql",
    /// A new key or subject.
    Insert => "insert_key.sql",
    /// A key as it stands.
    Keys => "keys.sql",
    /// What a charge of a key meets.
    Explain => "explain.sql",
    /// Keys in the order of their ids.
    ListKeys => "list_keys.sql",
    /// The same of an account.
    ListOfAccount => "list_of_account.sql",
    /// The same below a key.
    ListOfParent => "list_of_parent.sql",
    /// The same of a human.
    ListOfHuman => "list_of_human.sql",
    /// The same of those that are revoked or disabled.
    ListOfState => "list_of_state.sql",
    /// Keys of which there are few among many.
    ListByIndex => "list_by_index.sql",
    /// A new secret for a key.
    RotateKey => "rotate_key.sql",
    /// Other limits for a key.
    UpdateLimits => "update_limits.sql",
    /// The end of a key whose breaker trips.
    TripBreaker => "trip_breaker.sql",
    /// Changes of a key.
    UpdateKey => "update_key.sql",
    /// A revocation.
    Revoke => "revoke.sql",
    /// Revocations of many keys.
    RevokeAll => "revoke_all.sql",
    /// A request for more budget.
    RequestIncrease => "request_increase.sql",
    /// Requests for more budget, the newest first.
    ListIncreases => "list_increases.sql",
    /// A decision of one.
    DecideIncrease => "decide_increase.sql",
    /// Ledger entries.
    Events => "events.sql",
    /// The same after an id, in the order in which they are told.
    EventsAfter => "events_after.sql",
    /// What was spent, by period.
    Usage => "usage.sql",
    /// A check of the ledger.
    VerifyLedger => "verify_ledger.sql",
    /// The deletion of old ledger entries.
    PruneEvents => "prune_events.sql",
    /// Deliveries of a webhook, for one process to make.
    ClaimDeliveries => "claim_deliveries.sql",
    /// Alarms that time causes.
    RaiseNotices => "raise_notices.sql",
    /// What became of a delivery.
    EndDelivery => "end_delivery.sql",
    /// Deliveries that are not done.
    Deliveries => "deliveries.sql",
    /// A signup, counted by its client.
    CountSignup => "count_signup.sql",
    /// What is wrong with the rows.
    DiagnoseKeys => "diagnose_keys.sql",
}

/// The statements for a table as it is. Each is built when it is first asked for: a client needs a few of them.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) shape: TableShape,
    table: TableName,
    ledger: bool,
    thresholds: Thresholds,
    /// For each of [`TEMPLATES`], by the column that keys are found by.
    texts: Vec<[OnceLock<Arc<str>>; KeyColumn::ALL.len()]>,
}

impl Statements {
    pub(crate) fn new(table: &TableName, shape: TableShape, ledger: bool, thresholds: &Thresholds) -> Self {
        let texts = TEMPLATES.iter().map(|_| Default::default()).collect();
        Statements { shape, table: table.clone(), ledger, thresholds: thresholds.clone(), texts }
    }

    /// The text of a statement that finds keys by a column.
    pub(crate) fn sql_by(&self, column: KeyColumn, kind: StatementKind) -> Arc<str> {
        let known = TEMPLATES.iter().zip(&self.texts).find(|((known, _), _)| *known == kind);
        let Some(((_, template), texts)) = known else { return Arc::from("") };
        Arc::clone(texts[column as usize].get_or_init(|| {
            let variant = match kind {
                StatementKind::ChargeContended | StatementKind::ChargeTreeContended => "contended",
                StatementKind::ValidateVersions => "versions",
                _ => "",
            };
            let Statements { shape, table, ledger, thresholds, .. } = self;
            render(
                template,
                &Rendering { table, shape, lookup: column.name(), ledger: *ledger, thresholds, variant },
            )
        }))
    }

    /// The text of any other statement.
    pub(crate) fn sql(&self, kind: StatementKind) -> Arc<str> {
        self.sql_by(KeyColumn::KeyHash, kind)
    }

    /// Every statement, for people: its kind, the column that keys are found by where there are several, its text.
    pub(crate) fn list(&self) -> Vec<(StatementKind, Option<&'static str>, Arc<str>)> {
        let mut list = Vec::new();
        for (kind, template) in TEMPLATES {
            let columns: &[KeyColumn] = match template {
                by_id if has_mark(by_id, "lookup_cast") => &KeyColumn::ALL,
                by_credential if has_mark(by_credential, "lookup") => &KeyColumn::OF_CREDENTIALS,
                _ => &[KeyColumn::KeyHash],
            };
            for column in columns {
                let name = (columns.len() > 1).then(|| column.name());
                list.push((*kind, name, self.sql_by(*column, *kind)));
            }
        }
        list
    }
}

/// The statement that asks for the columns of the keys table.
pub(crate) const CATALOGUE: &str = include_str!("sql/catalogue.sql");

/// The statement that asks what is wrong with the server, the session and the schema.
pub(crate) const DIAGNOSE_DATABASE: &str = include_str!("sql/diagnose_database.sql");

/// A statement's text for one table.
///
/// The files in `sql/` are plain SQL with these marks, which only ever become identifiers, types and other SQL, never
/// values:
/// - `{table}`, `{table_literal}`; `{reservations}`, `{events}`, `{requests}`, `{deliveries}`, `{signups}`, the companion tables.
/// - `{k.column}`, the column or a NULL of its type where the table lacks it; `{id_type}`, `{account_type}`, `{scopes_type}`.
/// - `{max_cents}`, `{max_credit}`, `{max_ancestors}`, bounds; `{ledger}`, whether all money is written into the ledger.
/// - `{lookup}`, the column that keys are found by, and `{lookup_cast}`, what makes a text comparable to it.
/// - `{scopes_array}`, a key's scopes, `{bad_scopes}`, whether they cannot be, and `{names_scope}`, whether `$5` is one of
///   them.
/// - `{thresholds}`, the shares of a budget that raise an alarm.
/// - Any name of [`PARTS`], a file of `sql/`, which says what it is.
///
/// A line stands only where what its last comment says is so: `--? column`, the table has that column (or companion, as
/// `+events`); `--! column`, it has not; `--? thresholds`, there are some; `--? contended`, in `ChargeContended` and
/// `ChargeTreeContended`; `--? versions`, in `ValidateVersions`; `--? jsonb_metadata`, keys can have metadata;
/// `--? scopes_index`, an index knows who has a scope.
fn render(template: &str, rendering: &Rendering<'_>) -> Arc<str> {
    let mut sql = String::with_capacity(4 * template.len());
    rendering.expand(template, false, &mut sql);
    Arc::from(sql.trim())
}

/// The files of parts that several statements have: a mark of their name.
macro_rules! parts {
    ($($name:literal),*) => { &[$(($name, include_str!(concat!("sql/", $name, ".sql"))),)*] };
}

#[rustfmt::skip]
const PARTS: &[(&str, &str)] = parts![
    "chain", "entry_time", "cap", "room", "is_plain", "charged", "busy", "fraction", "used", "reserved",
    "period", "anchor", "first_anchor", "period_seconds", "due", "state", "key_record", "key_filter",
    "listed", "key_columns", "ancestor_state", "next_reset", "event", "run", "holders", "thresholds_of", "raised", "trip_entry",
    "takes_spends", "takes_ends", "budget", "boost", "boosted", "increase", "increase_filter", "named", "open", "tree"
];

/// Whether a template has a mark, itself or in one of its parts.
fn has_mark(template: &str, mark: &str) -> bool {
    let has = |mark: &str| template.contains(&format!("{{{mark}}}"));
    has(mark) || PARTS.iter().any(|(name, part)| has(name) && has_mark(part, mark))
}

/// A counter further below nothing counts as this, so that no sum of micro-cents overflows.
const MAX_CREDIT_CENTS: i64 = 1_000_000_000_000;

/// What a statement is rendered for.
struct Rendering<'a> {
    table: &'a TableName,
    shape: &'a TableShape,
    lookup: &'a str,
    ledger: bool,
    thresholds: &'a Thresholds,
    /// `contended`: the statement tells rows that somebody else has locked from those that have no room. `versions`: it
    /// answers versions of rows.
    variant: &'a str,
}

impl Rendering<'_> {
    /// Writes the lines that stand for a table of this shape, without comments, each mark replaced. With `all_columns`
    /// every column of `k` exists: `k` is not the table.
    fn expand(&self, text: &str, all_columns: bool, sql: &mut String) {
        for line in text.lines() {
            let (line, comment) = line.split_once("--").unwrap_or((line, ""));
            let has = |column: &str| match column {
                "contended" | "versions" => self.variant == column,
                "thresholds" => !self.thresholds.is_empty() && self.shape.has(ALARMS),
                "jsonb_metadata" => self.shape.keeps_metadata(),
                "scopes_index" => self.shape.has_scopes_index(),
                column => self.shape.has(column),
            };
            let is_missing =
                comment.strip_prefix('?').is_some_and(|columns| !columns.split_whitespace().all(has))
                    || comment.strip_prefix('!').is_some_and(|columns| columns.split_whitespace().all(has));
            if is_missing || line.trim().is_empty() {
                continue;
            }
            let mut rest = line.trim_end();
            while let Some((before, after)) = rest.split_once('{') {
                sql.push_str(before);
                let (mark, after) = after.split_once('}').unwrap_or((after, ""));
                self.replace(mark, all_columns, sql);
                rest = after;
            }
            sql.push_str(rest);
            sql.push('\n');
        }
    }

    fn replace(&self, mark: &str, all_columns: bool, sql: &mut String) {
        let type_of = |column: &str| self.shape.sql_type(column);
        match mark {
            "table" => sql.push_str(&self.table.quoted()),
            "table_literal" => sql.push_str(&quote_literal(&self.table.quoted())),
            "lookup" => sql.push_str(self.lookup),
            "lookup_cast" if self.lookup == "id" => {
                sql.push_str("::");
                sql.push_str(type_of("id"));
            }
            "lookup_cast" => {}
            "reservations" => sql.push_str(type_of("+reservations")),
            "events" => sql.push_str(type_of("+events")),
            "requests" => sql.push_str(type_of("+requests")),
            "deliveries" => sql.push_str(type_of(ALARMS)),
            "signups" => sql.push_str(type_of(SIGNUPS)),
            "ledger" => sql.push_str(if self.ledger { "true" } else { "false" }),
            "thresholds" => {
                let shares: Vec<String> = self.thresholds.thousandths().iter().map(u16::to_string).collect();
                sql.push_str(&format!("'{{{}}}'::bigint[]", shares.join(",")));
            }
            "id_type" => sql.push_str(type_of("id")),
            "account_type" => sql.push_str(type_of("account_id")),
            "scopes_type" => sql.push_str(type_of("scopes")),
            "max_cents" => sql.push_str(&self.shape.max_cents().to_string()),
            "max_credit" => sql.push_str(&MAX_CREDIT_CENTS.min(self.shape.max_cents()).to_string()),
            "max_ancestors" => sql.push_str(&MAX_ANCESTORS.to_string()),
            "scopes_array" => sql.push_str(scopes_array(type_of("scopes"), self.shape.has("scopes"))),
            "names_scope" => sql.push_str(NAMES_SCOPE),
            "bad_scopes" => sql.push_str(bad_scopes(type_of("scopes"))),
            "first_reset" => self.expand(include_str!("sql/next_reset.sql"), true, sql),
            mark if let Some((_, part)) = PARTS.iter().find(|(name, _)| *name == mark) => {
                self.expand(part, all_columns, sql);
            }
            _ => {
                let column = mark.strip_prefix("k.").unwrap_or(mark);
                match OPTIONAL_COLUMNS.iter().find(|(name, _)| *name == column) {
                    Some((_, sql_type)) if !all_columns && !self.shape.has(column) => {
                        sql.push_str("NULL::");
                        sql.push_str(sql_type);
                    }
                    _ => sql.push_str(mark),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
