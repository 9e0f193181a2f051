//! What can be said on the command line.

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Scoped, budgeted, expiring API keys for AI agents, on your own Postgres.
#[derive(Debug, Parser)]
#[command(name = "agentkey", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 no such key, 4 `verify` or `doctor` found something, \
5 not confirmed.";

/// What every command may be told.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Global {
    /// Where the database is, as a URL or as libpq writes it [default: $DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(super) database_url: Option<String>,
    /// The keys table: table or schema.table
    #[arg(long, global = true, value_name = "NAME", default_value = "sdk_api_keys")]
    pub(super) table: String,
    /// What new keys start with
    #[arg(long, global = true, value_name = "PREFIX", default_value = "ak_")]
    pub(super) key_prefix: String,
    /// How long a call may take, in seconds; `migrate` and `doctor` have no limit
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(super) timeout: u32,
    /// Answer in JSON, with money in cents, as the npm package does
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(super) color: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create the table, or add what it lacks
    Migrate(Migrate),
    /// Create a key: its secret goes to standard output, all else to standard error
    Create(Box<Create>),
    /// List keys as a tree, with what is spent, held and free of their budgets
    #[command(alias = "ls")]
    List(List),
    /// Show a key and the budgets that it draws on
    Show(OfKey),
    /// Say whether a charge of a key would pass, what stands in its way, and who holds it
    Explain(Explain),
    /// Change a key
    Update(Update),
    /// Switch a key off, and all that descend from it
    Disable(OfKey),
    /// Switch a key on again
    Enable(OfKey),
    /// Give a key a new secret, which goes to standard output; the one before counts for a while
    Rotate(Rotate),
    /// Revoke a key for good, and all that descend from it
    Revoke(OfKey),
    /// Revoke all live keys of an account, below a key, or of a human, for good
    RevokeAll(RevokeAll),
    /// List what keys ask for: more budget for a while
    Requests(Requests),
    /// Approve a request: the key's budget is raised at once, until its time is over
    Approve(Approve),
    /// Deny a request
    Deny(Decision),
    /// Chart what a key and its descendants spent
    Usage(Usage),
    /// Show entries of the ledger, the latest last
    Events(Events),
    /// Show what is not delivered to webhooks, and what is given up
    Deliveries(Deliveries),
    /// Check that keys are what the ledger and the open reservations say
    Verify(Verify),
    /// End the reservations whose time is over
    Sweep,
    /// Delete old entries of the ledger
    Prune(Prune),
    /// Look for what is wrong with the database, the table and its rows
    Doctor,
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct OfKey {
    /// The key's id, not its secret
    #[arg(allow_negative_numbers = true)]
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    pub(super) key: OfKey,
    /// A charge of so much, in cents; of a millionth of a cent if not given
    #[arg(long, value_name = "CENTS", allow_negative_numbers = true)]
    pub(super) cost_cents: Option<i64>,
    /// The same in dollars: 0.0042
    #[arg(long, value_name = "USD", conflicts_with = "cost_cents", allow_negative_numbers = true)]
    pub(super) cost_usd: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Say what is missing, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the SQL that it runs, and run nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) sql: bool,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Whose key it is; a child has its parent's account
    #[arg(long, required_unless_present = "parent")]
    pub(super) account: Option<String>,
    /// A user within the account
    #[arg(long)]
    pub(super) user: Option<String>,
    /// A name for people
    #[arg(long)]
    pub(super) name: Option<String>,
    /// What it may do, separated by commas; everything if not given
    #[arg(long, value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub(super) scopes: Option<Vec<String>>,
    #[command(flatten)]
    pub(super) budget: Budget,
    /// What it may spend in another period, in cents, and that it switches itself off there: 2000/month, 200/5m:disable;
    /// may be given several times
    #[arg(long, value_name = "LIMIT")]
    pub(super) limit: Vec<String>,
    /// How long it lives: 30m, 12h, 7d, 1mo
    #[arg(long, value_name = "DURATION")]
    pub(super) expires_in: Option<String>,
    /// The human who authorises it
    #[arg(long, value_name = "HUMAN")]
    pub(super) delegated_by: Option<String>,
    /// The id of the key that it draws on and dies with
    #[arg(long, value_name = "ID")]
    pub(super) parent: Option<String>,
    /// What you want to remember of it, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(super) metadata: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    pub(super) key: OfKey,
    /// How long the secret before counts: 0s, 30m, 24h, 7d
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub(super) grace: String,
    /// A name for this rotation: repeated under it, it replaces the secret that its first run made
    #[arg(long, value_name = "TEXT")]
    pub(super) idempotency_key: Option<String>,
}

/// A budget, in cents or in dollars.
#[derive(Debug, Args)]
pub(super) struct Budget {
    /// What it may spend, in cents
    #[arg(long, value_name = "CENTS", allow_negative_numbers = true)]
    pub(super) budget_cents: Option<i64>,
    /// What it may spend, in dollars: 12.50
    #[arg(long, value_name = "USD", conflicts_with = "budget_cents", allow_negative_numbers = true)]
    pub(super) budget_usd: Option<String>,
    /// When the budget starts afresh: hour, day, week, month, year, or a window such as 5m, 36h
    #[arg(long, value_name = "PERIOD")]
    pub(super) budget_period: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only keys of this account
    #[arg(long)]
    pub(super) account: Option<String>,
    /// Only the children of this key
    #[arg(long, value_name = "ID")]
    pub(super) parent: Option<String>,
    /// Only keys that this human authorised
    #[arg(long, value_name = "HUMAN")]
    pub(super) delegated_by: Option<String>,
    /// Only keys that are live, disabled, expired or revoked
    #[arg(long)]
    pub(super) state: Option<String>,
    /// Only keys that have this scope
    #[arg(long)]
    pub(super) scope: Option<String>,
    /// Only keys whose metadata contains this JSON object
    #[arg(long, value_name = "JSON")]
    pub(super) metadata: Option<String>,
    /// Only keys that have used at least this share of their budget: 0.8
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(super) over_share: Option<f64>,
    /// Only keys after the one of this id
    #[arg(long, value_name = "ID")]
    pub(super) after: Option<String>,
    /// How many at most
    #[arg(long, value_name = "KEYS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("changes").required(true).multiple(true).args(
    ["name", "scopes", "all_scopes", "budget_cents", "budget_usd", "no_budget", "limit", "no_limits", "budget_period", "no_period", "expires_in", "no_expiry"]))]
pub(super) struct Update {
    #[command(flatten)]
    pub(super) key: OfKey,
    /// A name for people
    #[arg(long)]
    pub(super) name: Option<String>,
    /// What it may do, separated by commas
    #[arg(long, value_delimiter = ',', conflicts_with = "all_scopes", value_parser = NonEmptyStringValueParser::new())]
    pub(super) scopes: Option<Vec<String>>,
    /// It may do everything that its parent may
    #[arg(long)]
    pub(super) all_scopes: bool,
    #[command(flatten)]
    pub(super) budget: Budget,
    /// It has no budget of its own
    #[arg(long, conflicts_with_all = ["budget_cents", "budget_usd"])]
    pub(super) no_budget: bool,
    /// What it may spend in another period, in place of all its limits: 2000/month, 200/5m:disable; may be given several
    /// times
    #[arg(long, value_name = "LIMIT", conflicts_with = "no_limits")]
    pub(super) limit: Vec<String>,
    /// It has no limits beside its budget
    #[arg(long)]
    pub(super) no_limits: bool,
    /// It has one budget for life
    #[arg(long, conflicts_with = "budget_period")]
    pub(super) no_period: bool,
    /// How long it lives from now on: 30m, 12h, 7d, 1mo
    #[arg(long, value_name = "DURATION", conflicts_with = "no_expiry")]
    pub(super) expires_in: Option<String>,
    /// It lives for ever
    #[arg(long)]
    pub(super) no_expiry: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, args = ["account", "parent", "delegated_by"])]
pub(super) struct RevokeAll {
    /// All keys of this account
    #[arg(long)]
    pub(super) account: Option<String>,
    /// All keys that descend from this one
    #[arg(long, value_name = "ID")]
    pub(super) parent: Option<String>,
    /// All keys that this human authorised
    #[arg(long, value_name = "HUMAN")]
    pub(super) delegated_by: Option<String>,
    #[command(flatten)]
    pub(super) confirmed: Confirmed,
}

#[derive(Debug, Args)]
pub(super) struct Confirmed {
    /// Do not ask
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Usage {
    #[command(flatten)]
    pub(super) key: OfKey,
    /// By hour, day, week, month or year
    #[arg(long, value_name = "PERIOD", default_value = "day")]
    pub(super) by: String,
    /// From this time on: 2026-11-30 or 2026-11-30T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = super::text::read_time)]
    pub(super) from: Option<chrono::DateTime<chrono::Utc>>,
    /// Until this time, which is excluded
    #[arg(long, value_name = "TIME", value_parser = super::text::read_time)]
    pub(super) to: Option<chrono::DateTime<chrono::Utc>>,
}

#[derive(Debug, Args)]
pub(super) struct Requests {
    /// Only of this key
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    pub(super) key: Option<String>,
    /// Only of this key and of those that descend from it
    #[arg(long, value_name = "ID", conflicts_with = "key", allow_negative_numbers = true)]
    pub(super) within: Option<String>,
    /// Only of this account
    #[arg(long)]
    pub(super) account: Option<String>,
    /// Only of this state: pending, approved, denied, or all
    #[arg(long, default_value = "pending")]
    pub(super) state: String,
    /// Only requests before the one of this id
    #[arg(long, value_name = "ID")]
    pub(super) before: Option<i64>,
    /// How many at most
    #[arg(long, value_name = "REQUESTS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct Decision {
    /// The request's id
    pub(super) id: i64,
    /// Who decides, for the ledger
    #[arg(long, value_name = "NAME")]
    pub(super) by: String,
}

#[derive(Debug, Args)]
pub(super) struct Approve {
    #[command(flatten)]
    pub(super) decision: Decision,
    /// By how much, in cents; as much as was asked for if not given
    #[arg(long, value_name = "CENTS", allow_negative_numbers = true)]
    pub(super) cents: Option<i64>,
    /// For how long from now: 30m, 2h, 7d; as long as was asked for if not given
    #[arg(long = "for", value_name = "DURATION")]
    pub(super) lasts: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Only entries of this key
    #[arg(long, value_name = "ID")]
    pub(super) key: Option<String>,
    /// Only entries of this account
    #[arg(long)]
    pub(super) account: Option<String>,
    /// Only entries of this kind: create, update, rotate, disable, enable, revoke, charge, refund, reserve, settle,
    /// release, expire, reset, threshold, expiring, stale_hold, request_increase, approve_increase, deny_increase
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Only alarms: what somebody should hear of
    #[arg(long)]
    pub(super) alarms: bool,
    /// How many at most
    #[arg(long, value_name = "ENTRIES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) limit: u32,
    /// Go on with new entries as they come; in JSON, one a line
    #[arg(long, short)]
    pub(super) follow: bool,
}

#[derive(Debug, Args)]
pub(super) struct Deliveries {
    /// Only of the webhook of this name
    #[arg(long, value_name = "NAME")]
    pub(super) webhook: Option<String>,
    /// Only those that are not tried again
    #[arg(long)]
    pub(super) dead: bool,
    /// How many at most
    #[arg(long, value_name = "DELIVERIES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Only this key
    #[arg(allow_negative_numbers = true)]
    pub(super) id: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Entries that are older: 30m, 12h, 90d, 12mo
    #[arg(long, value_name = "DURATION")]
    pub(super) older_than: String,
    #[command(flatten)]
    pub(super) confirmed: Confirmed,
}
