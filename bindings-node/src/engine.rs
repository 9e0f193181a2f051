//! The engine as a JavaScript object. Every call is synchronous and short.

use std::time::{Duration, Instant};

use agentkey::{
    AccountFilter, Cost, CreateKey, Credential, Fault, KeyHash, NewRow, Options, Request, Statement,
    StatementId, StatementKind, Ticket,
};
use agentkey::{Parent, ReservationId, RevokeFilter, Rounding};
use napi_derive::napi;

use crate::answers::{self, Minted};
use crate::error::{Result, thrown};
use crate::options::EngineOptions;

/// A statement for `pool.query(text, values)`.
#[napi(object)]
pub struct NativeStatement {
    /// Names it to `receive` and `fail`.
    pub id: f64,
    /// SQL.
    pub text: String,
    /// Every parameter is text or NULL.
    #[napi(ts_type = "(string | null)[]")]
    pub values: Vec<Option<String>>,
    /// Whether it may take as long as it takes.
    pub unlimited: bool,
}

/// Requests in, statements out; rows in, answers out.
#[napi]
pub struct Engine {
    engine: agentkey::Engine,
    options: Options,
    started: Instant,
    minted: Minted,
}

#[napi]
impl Engine {
    /// Checks the options; does no I/O.
    #[napi(constructor)]
    pub fn new(options: EngineOptions) -> Result<Self> {
        let options = options.read()?;
        Ok(Engine {
            engine: agentkey::Engine::new(options.clone()),
            options,
            started: Instant::now(),
            minted: Minted::new(),
        })
    }

    /// How long a call may take, in milliseconds.
    #[napi(getter)]
    pub fn timeout_ms(&self) -> f64 {
        millis(self.options.timeout)
    }

    /// Looks a raw key up.
    #[napi]
    pub fn validate(&mut self, raw_key: String) -> Result<f64> {
        self.submit(Request::Validate(Credential::Key(KeyHash::of(&raw_key))))
    }

    /// Looks a subject up.
    #[napi]
    pub fn validate_subject(&mut self, subject: String) -> Result<f64> {
        self.submit(Request::Validate(Credential::Subject(subject)))
    }

    /// Charges a raw key.
    #[napi]
    pub fn charge(&mut self, raw_key: String, cents: f64) -> Result<f64> {
        self.submit(Request::Charge(
            Credential::Key(KeyHash::of(&raw_key)),
            Cost::from_cents_f64_with(cents, self.options.rounding),
        ))
    }

    /// Charges a subject.
    #[napi]
    pub fn charge_subject(&mut self, subject: String, cents: f64) -> Result<f64> {
        self.submit(Request::Charge(
            Credential::Subject(subject),
            Cost::from_cents_f64_with(cents, self.options.rounding),
        ))
    }

    /// Charges or reserves, with all that can be asked of it. `spending` is the data as JSON.
    #[napi]
    pub fn spend(&mut self, credential: String, is_subject: bool, spending: String) -> Result<f64> {
        let spend = crate::spending::read(&spending, self.options.rounding)?;
        let credential = match is_subject {
            true => Credential::Subject(credential),
            false => Credential::Key(KeyHash::of(&credential)),
        };
        self.submit(Request::Spend(credential, Box::new(spend)))
    }

    /// Settles, releases or extends a reservation: `finish` is the cost or the time to live as JSON.
    #[napi]
    pub fn finish(
        &mut self,
        reservation_id: String,
        #[napi(ts_arg_type = "'settle' | 'release' | 'extend'")] action: String,
        finish: String,
    ) -> Result<f64> {
        let finish = crate::spending::read_finish(&action, &finish, self.options.rounding)?;
        // No reservation has the nil UUID.
        let id = ReservationId::parse(&reservation_id).unwrap_or_else(ReservationId::nil);
        self.submit(Request::Finish(id, finish))
    }

    /// Ends the reservations whose time is over.
    #[napi]
    pub fn sweep(&mut self) -> Result<f64> {
        self.submit(Request::Sweep)
    }

    /// Revokes all keys of an account, below a parent, or that a human authorised.
    #[napi]
    pub fn revoke_all(
        &mut self,
        #[napi(ts_arg_type = "'accountId' | 'parent' | 'delegatedBy'")] by: String,
        value: String,
    ) -> Result<f64> {
        self.submit(Request::RevokeAll(match by.as_str() {
            "accountId" => RevokeFilter::Account(value),
            "parent" => RevokeFilter::Parent(value),
            _ => RevokeFilter::DelegatedBy(value),
        }))
    }

    /// Reads the ledger. `filter` is JSON.
    #[napi]
    pub fn events(&mut self, filter: String) -> Result<f64> {
        self.submit(Request::Events(read_json("filter", &filter)?))
    }

    /// Reads what was spent. `filter` is JSON.
    #[napi]
    pub fn usage(&mut self, filter: String) -> Result<f64> {
        self.submit(Request::Usage(read_json("filter", &filter)?))
    }

    /// Checks the ledger of a key, or of all.
    #[napi]
    pub fn verify_ledger(&mut self, id: Option<String>) -> Result<f64> {
        self.submit(Request::VerifyLedger(id))
    }

    /// Deletes ledger entries that are older.
    #[napi]
    pub fn prune_events(&mut self, older_than_seconds: f64) -> Result<f64> {
        self.submit(Request::PruneEvents(integer(older_than_seconds)))
    }

    /// Creates a key. `spec` is a key's data as JSON.
    #[napi]
    pub fn create(&mut self, spec: String) -> Result<f64> {
        let minted = self.options.key_prefix.mint().map_err(thrown)?;
        let row = NewRow::for_key(self.read_spec(&spec)?, &minted, &self.options).map_err(thrown)?;
        let ticket = self.submit(Request::Insert(Box::new(row)))?;
        self.minted.insert(Ticket(integer(ticket)), minted.raw);
        Ok(ticket)
    }

    /// Creates the row of a subject, once.
    #[napi]
    pub fn ensure_subject(&mut self, subject: String, spec: String) -> Result<f64> {
        let row = NewRow::for_subject(&subject, self.read_spec(&spec)?, &self.options).map_err(thrown)?;
        self.submit(Request::Insert(Box::new(row)))
    }

    /// Revokes a key; `of_account` says whether it must be of `account`, `within` which key it must be or descend from.
    #[napi]
    pub fn revoke(
        &mut self,
        id: String,
        of_account: bool,
        account: Option<String>,
        within: Option<String>,
    ) -> Result<f64> {
        let account = if of_account { AccountFilter::Only(account) } else { AccountFilter::Any };
        self.submit(Request::Revoke { id, account, within })
    }

    /// Migrates the table.
    #[napi]
    pub fn migrate(&mut self) -> Result<f64> {
        self.submit(Request::Migrate)
    }

    /// Those of `scopes` that new keys may not have.
    #[napi]
    pub fn invalid_scopes(&self, scopes: Vec<String>) -> Vec<String> {
        agentkey::invalid_scopes(&scopes, self.options.valid_scopes.as_deref())
    }

    /// The next statement that may be sent now.
    #[napi]
    pub fn poll(&mut self) -> Option<NativeStatement> {
        self.engine.poll(self.started.elapsed()).map(native)
    }

    /// Takes a statement's rows.
    #[napi]
    pub fn receive(&mut self, id: f64, rows: Vec<String>) {
        self.engine.receive(self.started.elapsed(), StatementId(integer(id)), Ok(&rows));
    }

    /// Takes why a statement has no rows.
    #[napi]
    pub fn fail(&mut self, id: f64, sqlstate: Option<String>, message: String) {
        self.engine.receive(
            self.started.elapsed(),
            StatementId(integer(id)),
            Err(Fault { sqlstate, message }),
        );
    }

    /// Gives up what has waited too long.
    #[napi]
    pub fn expire(&mut self) {
        self.engine.expire(self.started.elapsed());
    }

    /// The answers that are ready, as JSON.
    #[napi]
    pub fn answers(&mut self) -> Option<String> {
        let exact = self.options.rounding == Rounding::Exact;
        answers::write(&self.engine.answers(), &mut self.minted, exact)
    }

    /// Milliseconds until `poll` may have something that it has not now.
    #[napi]
    pub fn next_retry(&self) -> Option<f64> {
        self.engine.next_retry().map(|at| millis(at.saturating_sub(self.started.elapsed())))
    }

    /// Milliseconds until `expire` has something to do.
    #[napi]
    pub fn next_deadline(&self) -> Option<f64> {
        self.engine.next_deadline().map(|at| millis(at.saturating_sub(self.started.elapsed())))
    }

    /// Takes no more requests.
    #[napi]
    pub fn close(&mut self) {
        self.engine.close();
    }

    /// Whether nothing waits and nothing is under way.
    #[napi(getter)]
    pub fn is_idle(&self) -> bool {
        self.engine.is_idle()
    }

    /// Whether no call waits for an answer, here or under way.
    #[napi(getter)]
    pub fn is_answered(&self) -> bool {
        self.engine.stats().pending == 0
    }

    /// Statements sent, retries, and background writes that failed.
    #[napi]
    pub fn stats(&self) -> EngineStats {
        let stats = self.engine.stats();
        EngineStats {
            pending: count(stats.pending),
            statements: number(stats.statements),
            retries: number(stats.retries),
            failed_touches: number(stats.failed_touches),
        }
    }

    fn read_spec(&self, json: &str) -> Result<CreateKey> {
        let mut spec: CreateKey = read_json("key", json)?;
        if let Some(Parent::Id(text)) = &spec.parent {
            spec.parent = Some(Parent::of_text(text, &self.options.key_prefix));
        }
        Ok(spec)
    }

    fn submit(&mut self, request: Request) -> Result<f64> {
        let Ticket(ticket) = self.engine.submit(self.started.elapsed(), request).map_err(thrown)?;
        Ok(number(ticket))
    }
}

/// Counters.
#[napi(object)]
pub struct EngineStats {
    /// Calls that wait or are under way.
    pub pending: f64,
    /// Statements sent.
    pub statements: f64,
    /// Statements that were tried again.
    pub retries: f64,
    /// Background writes of `last_used_at` that failed.
    pub failed_touches: f64,
}

fn native(statement: Statement) -> NativeStatement {
    NativeStatement {
        id: number(statement.id.0),
        text: statement.sql.as_ref().to_owned(),
        values: statement.params,
        unlimited: statement.kind == StatementKind::Migrate,
    }
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| {
        thrown(agentkey::Error::new(agentkey::ErrorCode::InvalidText, format!("Invalid {what}: {e}")))
    })
}

/// Counted from 1 in steps of 1: a double holds it for thousands of years.
fn number(id: u64) -> f64 {
    id as f64
}

fn count(n: usize) -> f64 {
    n as f64
}

fn integer(id: f64) -> u64 {
    id as u64
}

/// Rounded up, so that what is waited for is over then.
fn millis(duration: Duration) -> f64 {
    number(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
