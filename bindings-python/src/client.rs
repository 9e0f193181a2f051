//! The client: checks arguments and makes calls of them. Waiting is the business of a channel, or of `wait`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentkey::gate::{Body, Call as HttpCall, Pending, Response as HttpResponse, Route, Step};
use agentkey::{
    AcceptedPeriods, AgentKey, Align, Charge, Cost, Credential, ErrorCode, EventFilter, Finish, KeyPrefix,
    Request, ReservationId, Reserve, RevokeFilter, Rounding, Spend, TableName, UsageFilter,
};
use chrono::{DateTime, Utc};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use sqlx::postgres::PgConnectOptions;
use tokio::runtime::Handle;

use crate::args::{cost_of, hashed, id_text, in_range, optional_id, spec, texts};
use crate::call::Call;
use crate::channel;
use crate::errors::{raise, with_code, wrong_value};
use crate::gate::{Admission, Guard, Response, Routes};
use crate::results::{Created, ScopeCheck, Stats};
use crate::runtime::{PerProcess, handle};

/// A client of one process: the core's, and the runtime it lives on.
pub(crate) struct Live {
    pub(crate) ak: AgentKey,
    pub(crate) runtime: Handle,
}

impl Live {
    /// Whether money is told to the micro-cent.
    pub(crate) fn is_exact(&self) -> bool {
        self.ak.options().rounding == Rounding::Exact
    }
}

/// Options, checked, and the client that is made of them when the first call needs it, in each process.
#[pyclass(frozen, module = "pyagentkey._native")]
pub struct Client {
    database: PgConnectOptions,
    options: Options,
    live: PerProcess<Live>,
    closed: AtomicBool,
}

struct Options {
    pool_size: u32,
    table_name: String,
    key_prefix: String,
    valid_scopes: Option<Vec<String>>,
    accepted_periods: AcceptedPeriods,
    align: Align,
    ledger: bool,
    rounding: Rounding,
    timeout: Duration,
    max_waiting: usize,
    touch_interval_seconds: u32,
    pooler: bool,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (dsn, *, pool_size, table_name, key_prefix, valid_scopes, accepted_periods, align, ledger, rounding, timeout, max_waiting, touch_interval_seconds, pooler))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        dsn: &str,
        pool_size: i64,
        table_name: String,
        key_prefix: String,
        valid_scopes: Option<&Bound<'_, PyAny>>,
        accepted_periods: &str,
        align: &str,
        ledger: bool,
        rounding: &str,
        timeout: f64,
        max_waiting: i64,
        touch_interval_seconds: i64,
        pooler: bool,
    ) -> PyResult<Self> {
        TableName::new(&table_name).map_err(raise)?;
        KeyPrefix::new(&key_prefix).map_err(raise)?;
        let options = Options {
            pool_size: in_range("pool_size", pool_size, 1, 1_000)?,
            table_name,
            key_prefix,
            valid_scopes: valid_scopes.map(|scopes| texts("valid_scopes", scopes)).transpose()?,
            accepted_periods: match accepted_periods {
                "all" => AcceptedPeriods::All,
                "day_and_month" => AcceptedPeriods::DayAndMonth,
                _ => return Err(wrong_value("accepted_periods must be \"all\" or \"day_and_month\"")),
            },
            align: match align {
                "creation" => Align::Creation,
                "calendar" => Align::Calendar,
                _ => return Err(wrong_value("align must be \"creation\" or \"calendar\"")),
            },
            ledger,
            rounding: match rounding {
                "up" => Rounding::Up,
                "exact" => Rounding::Exact,
                _ => return Err(wrong_value("rounding must be \"up\" or \"exact\"")),
            },
            timeout: Some(timeout)
                .filter(|t| (0.001..=86_400.0).contains(t))
                .map(Duration::from_secs_f64)
                .ok_or_else(|| wrong_value("timeout must be between 0.001 and 86400 seconds"))?,
            max_waiting: in_range("max_waiting", max_waiting, 1, i64::from(i32::MAX))?,
            touch_interval_seconds: in_range(
                "touch_interval_seconds",
                touch_interval_seconds,
                0,
                i64::from(i32::MAX),
            )?,
            pooler,
        };
        let database = crate::dsn::parse(dsn)?;
        Ok(Client { database, options, live: PerProcess::new(), closed: AtomicBool::new(false) })
    }

    #[pyo3(signature = (account_id, user_id, scopes, budget_cents, budget_period, expires_in, delegated_by, name, parent))]
    #[allow(clippy::too_many_arguments, reason = "fields of a key")]
    fn create(
        &self,
        account_id: &Bound<'_, PyAny>,
        user_id: Option<String>,
        scopes: Option<&Bound<'_, PyAny>>,
        budget_cents: Option<&Bound<'_, PyAny>>,
        budget_period: Option<String>,
        expires_in: Option<String>,
        delegated_by: Option<String>,
        name: Option<String>,
        parent: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Call> {
        let prefix = &self.options.key_prefix;
        let spec = spec(
            account_id,
            user_id,
            scopes,
            budget_cents,
            budget_period,
            expires_in,
            delegated_by,
            name,
            parent,
            prefix,
        )?;
        self.task(|ak| async move { ak.create(spec).await.map(Created::from) })
    }

    #[pyo3(signature = (subject, account_id, user_id, scopes, budget_cents, budget_period, expires_in, delegated_by, name, parent))]
    #[allow(clippy::too_many_arguments, reason = "fields of a key")]
    fn ensure_subject(
        &self,
        subject: String,
        account_id: &Bound<'_, PyAny>,
        user_id: Option<String>,
        scopes: Option<&Bound<'_, PyAny>>,
        budget_cents: Option<&Bound<'_, PyAny>>,
        budget_period: Option<String>,
        expires_in: Option<String>,
        delegated_by: Option<String>,
        name: Option<String>,
        parent: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Call> {
        let prefix = &self.options.key_prefix;
        let spec = spec(
            account_id,
            user_id,
            scopes,
            budget_cents,
            budget_period,
            expires_in,
            delegated_by,
            name,
            parent,
            prefix,
        )?;
        self.task(|ak| async move { ak.ensure_subject(&subject, spec).await })
    }

    fn validate(&self, key: &Bound<'_, PyString>) -> PyResult<Call> {
        self.request(Request::Validate(hashed(key)))
    }

    fn validate_by_subject(&self, subject: String) -> PyResult<Call> {
        self.request(Request::Validate(Credential::Subject(subject)))
    }

    #[pyo3(signature = (key, cost_cents, cost_microcents, cost_usd, idempotency_key, overrun, metadata))]
    #[allow(clippy::too_many_arguments, reason = "fields of a charge")]
    fn track_usage(
        &self,
        key: &Bound<'_, PyString>,
        cost_cents: Option<&Bound<'_, PyAny>>,
        cost_microcents: Option<&Bound<'_, PyAny>>,
        cost_usd: Option<&Bound<'_, PyAny>>,
        idempotency_key: Option<String>,
        overrun: &str,
        metadata: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Call> {
        let cost = cost_of(cost_cents, cost_microcents, cost_usd, self.options.rounding)?;
        self.charge(hashed(key), cost, idempotency_key, overrun, metadata)
    }

    #[pyo3(signature = (subject, cost_cents, cost_microcents, cost_usd, idempotency_key, overrun, metadata))]
    #[allow(clippy::too_many_arguments, reason = "fields of a charge")]
    fn track_usage_by_subject(
        &self,
        subject: String,
        cost_cents: Option<&Bound<'_, PyAny>>,
        cost_microcents: Option<&Bound<'_, PyAny>>,
        cost_usd: Option<&Bound<'_, PyAny>>,
        idempotency_key: Option<String>,
        overrun: &str,
        metadata: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Call> {
        let cost = cost_of(cost_cents, cost_microcents, cost_usd, self.options.rounding)?;
        self.charge(Credential::Subject(subject), cost, idempotency_key, overrun, metadata)
    }

    #[pyo3(signature = (key, cost_cents, cost_microcents, cost_usd, ttl, idempotency_key, metadata))]
    #[allow(clippy::too_many_arguments, reason = "fields of a reserve")]
    fn reserve(
        &self,
        key: &Bound<'_, PyString>,
        cost_cents: Option<&Bound<'_, PyAny>>,
        cost_microcents: Option<&Bound<'_, PyAny>>,
        cost_usd: Option<&Bound<'_, PyAny>>,
        ttl: String,
        idempotency_key: Option<String>,
        metadata: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Call> {
        let cost = cost_of(cost_cents, cost_microcents, cost_usd, self.options.rounding)?;
        self.hold(hashed(key), cost, ttl, idempotency_key, metadata)
    }

    #[pyo3(signature = (subject, cost_cents, cost_microcents, cost_usd, ttl, idempotency_key, metadata))]
    #[allow(clippy::too_many_arguments, reason = "fields of a reserve")]
    fn reserve_by_subject(
        &self,
        subject: String,
        cost_cents: Option<&Bound<'_, PyAny>>,
        cost_microcents: Option<&Bound<'_, PyAny>>,
        cost_usd: Option<&Bound<'_, PyAny>>,
        ttl: String,
        idempotency_key: Option<String>,
        metadata: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Call> {
        let cost = cost_of(cost_cents, cost_microcents, cost_usd, self.options.rounding)?;
        self.hold(Credential::Subject(subject), cost, ttl, idempotency_key, metadata)
    }

    #[pyo3(signature = (reservation_id, cost_cents, cost_microcents, cost_usd))]
    fn settle(
        &self,
        reservation_id: &str,
        cost_cents: Option<&Bound<'_, PyAny>>,
        cost_microcents: Option<&Bound<'_, PyAny>>,
        cost_usd: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Call> {
        let cost = cost_of(cost_cents, cost_microcents, cost_usd, self.options.rounding)?;
        self.finish(reservation_id, Finish::Settle(cost))
    }

    fn release(&self, reservation_id: &str) -> PyResult<Call> {
        self.finish(reservation_id, Finish::Release)
    }

    fn extend(&self, reservation_id: &str, ttl: &str) -> PyResult<Call> {
        self.finish(reservation_id, Finish::extend(ttl).map_err(raise)?)
    }

    fn sweep_reservations(&self) -> PyResult<Call> {
        self.request(Request::Sweep)
    }

    fn revoke_all(&self, by: &str, value: &Bound<'_, PyAny>) -> PyResult<Call> {
        let value = id_text(by, value)?;
        self.request(Request::RevokeAll(match by {
            "account_id" => RevokeFilter::Account(value),
            "parent" => RevokeFilter::Parent(value),
            _ => RevokeFilter::DelegatedBy(value),
        }))
    }

    #[pyo3(signature = (key_id, account_id, kind, before, limit))]
    fn events(
        &self,
        key_id: &Bound<'_, PyAny>,
        account_id: &Bound<'_, PyAny>,
        kind: Option<String>,
        before: Option<i64>,
        limit: i64,
    ) -> PyResult<Call> {
        let filter = EventFilter {
            key_id: optional_id("key_id", key_id)?,
            account_id: optional_id("account_id", account_id)?,
            kind,
            before,
            limit: Some(in_range("limit", limit, 1, 1_000)?),
        };
        self.request(Request::Events(filter))
    }

    #[pyo3(signature = (key_id, from_, to, by))]
    fn usage(
        &self,
        key_id: &Bound<'_, PyAny>,
        from_: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        by: String,
    ) -> PyResult<Call> {
        let filter = UsageFilter { key_id: id_text("key_id", key_id)?, from: from_, to, by: Some(by) };
        self.request(Request::Usage(filter))
    }

    fn verify_ledger(&self, key_id: &Bound<'_, PyAny>) -> PyResult<Call> {
        self.request(Request::VerifyLedger(optional_id("key_id", key_id)?))
    }

    fn prune_events(&self, older_than_seconds: u64) -> PyResult<Call> {
        self.request(Request::PruneEvents(older_than_seconds))
    }

    fn revoke(&self, key_id: &Bound<'_, PyAny>) -> PyResult<Call> {
        let id = id_text("key_id", key_id)?;
        self.task(|ak| async move { ak.revoke(id).await })
    }

    fn revoke_of_account(&self, key_id: &Bound<'_, PyAny>, account_id: &Bound<'_, PyAny>) -> PyResult<Call> {
        let id = id_text("key_id", key_id)?;
        let account = optional_id("account_id", account_id)?;
        self.task(|ak| async move { ak.revoke_of_account(id, account).await })
    }

    fn migrate(&self) -> PyResult<Call> {
        self.task(|ak| async move { ak.migrate().await })
    }

    /// `None` where there is nothing to close. Later calls are refused.
    fn close(&self) -> Option<Call> {
        self.closed.store(true, Ordering::Relaxed);
        let live = self.live.get()?;
        let ak = live.ak.clone();
        Some(Call::task(live, async move {
            ak.close().await;
            Ok(())
        }))
    }

    /// Runs a call and waits for its result.
    fn wait(&self, py: Python<'_>, call: &Bound<'_, Call>) -> PyResult<Py<PyAny>> {
        channel::wait(py, call.get())
    }

    fn validate_scopes(&self, scopes: &Bound<'_, PyAny>) -> PyResult<ScopeCheck> {
        let scopes = texts("scopes", scopes)?;
        Ok(ScopeCheck(agentkey::invalid_scopes(&scopes, self.options.valid_scopes.as_deref())))
    }

    fn stats(&self) -> Stats {
        Stats(self.live.get().map(|live| live.ak.stats()).unwrap_or_default())
    }

    /// A `Pass`, or the `Response` to send instead. With `reserve_cents`, so much is held for the request.
    #[pyo3(signature = (guard, authorization, reserve_cents, ttl))]
    fn admit(
        &self,
        guard: &Guard,
        authorization: Option<&str>,
        reserve_cents: Option<&Bound<'_, PyAny>>,
        ttl: String,
    ) -> PyResult<Call> {
        let rounding = self.options.rounding;
        let reserve = reserve_cents.map(|cents| cost_of(Some(cents), None, None, rounding)).transpose()?;
        let guard = guard.0.clone();
        let exact = rounding == Rounding::Exact;
        match guard.begin(authorization) {
            Err(response) => self.task(move |_| async move { Ok(Admission::of(Err(response), exact)) }),
            Ok(token) => self.task(move |ak| async move {
                let verdict = ak.validate(token.expose()).await;
                let decision = match (guard.decide(verdict, Utc::now()), reserve) {
                    (Ok(pass), Some(cost)) => {
                        let reserved = ak.reserve(token.expose(), Reserve::new(cost).ttl(ttl)).await;
                        agentkey::gate::held(reserved, Utc::now())
                            .map(|reservation| (pass, Some(reservation)))
                    }
                    (decision, _) => decision.map(|pass| (pass, None)),
                };
                Ok(Admission::of(decision, exact))
            }),
        }
    }

    /// The `Response` of a self-serve route; `None` if the routes have no such path.
    fn serve(
        &self,
        routes: &Routes,
        method: &str,
        path: &str,
        authorization: Option<String>,
        body: &[u8],
        address: Option<String>,
    ) -> PyResult<Option<Call>> {
        let Some(route) = Route::of(method, path) else { return Ok(None) };
        let body = match body {
            [] => Body::Missing,
            bytes => serde_json::from_slice(bytes).map_or(Body::Unreadable, Body::Json),
        };
        let call = HttpCall { route, authorization, body, address, now: Utc::now() };
        // Here and not on the runtime, whose threads must not hold the lock of the signups' count during a fork.
        let step = routes.0.handle(call);
        self.task(|ak| async move { Ok(Response(finish(&ak, step).await)) }).map(Some)
    }
}

impl Client {
    fn live(&self) -> PyResult<Arc<Live>> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(with_code(ErrorCode::Closed.as_str(), "the client is closed", None));
        }
        self.live.get_or_try_init(|| {
            let runtime = handle()?;
            let entered = runtime.enter();
            let options = &self.options;
            let mut builder = AgentKey::builder()
                .pool_size(options.pool_size)
                .table_name(&options.table_name)
                .key_prefix(&options.key_prefix)
                .accepted_periods(options.accepted_periods)
                .align(options.align)
                .ledger(options.ledger)
                .rounding(options.rounding)
                .timeout(options.timeout)
                .max_waiting(options.max_waiting)
                .touch_interval_seconds(options.touch_interval_seconds)
                .pooler(options.pooler);
            if let Some(scopes) = &options.valid_scopes {
                builder = builder.valid_scopes(scopes);
            }
            let ak = builder.connect_lazy(self.database.clone()).map_err(raise)?;
            drop(entered);
            Ok(Live { ak, runtime })
        })
    }

    fn charge(
        &self,
        credential: Credential,
        cost: Cost,
        idempotency_key: Option<String>,
        overrun: &str,
        metadata: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Call> {
        let mut charge = Charge::new(cost).overrun(overrun.parse().map_err(raise)?);
        if let Some(key) = idempotency_key {
            charge = charge.idempotency_key(key);
        }
        if let Some(metadata) = metadata {
            charge = charge.metadata(crate::args::metadata(metadata)?);
        }
        self.request(Request::Spend(credential, Box::new(charge.into())))
    }

    fn hold(
        &self,
        credential: Credential,
        cost: Cost,
        ttl: String,
        idempotency_key: Option<String>,
        metadata: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Call> {
        let mut reserve = Reserve::new(cost).ttl(ttl);
        if let Some(key) = idempotency_key {
            reserve = reserve.idempotency_key(key);
        }
        if let Some(metadata) = metadata {
            reserve = reserve.metadata(crate::args::metadata(metadata)?);
        }
        let spend = Spend::try_from(reserve).map_err(raise)?;
        self.request(Request::Spend(credential, Box::new(spend)))
    }

    fn finish(&self, reservation_id: &str, finish: Finish) -> PyResult<Call> {
        // No reservation has the nil UUID.
        let id = ReservationId::parse(reservation_id).unwrap_or_else(ReservationId::nil);
        self.request(Request::Finish(id, finish))
    }

    fn request(&self, request: Request) -> PyResult<Call> {
        Ok(Call::request(self.live()?, request))
    }

    fn task<T, F>(&self, work: impl FnOnce(AgentKey) -> F) -> PyResult<Call>
    where
        T: Send + 'static + for<'py> IntoPyObject<'py>,
        F: Future<Output = Result<T, agentkey::Error>> + Send + 'static,
    {
        let live = self.live()?;
        let work = work(live.ak.clone());
        Ok(Call::task(live, work))
    }
}

/// Asks the client what the routes want to know.
async fn finish(ak: &AgentKey, mut step: Step) -> HttpResponse {
    loop {
        step = match step {
            Step::Respond(response) => return response,
            Step::Validate { token, then } => {
                let verdict = ak.validate(token.expose()).await;
                Pending::verdict(then, verdict, Utc::now())
            }
            Step::Create(new) => {
                let created = ak.create(new.spec).await.map(|created| Created::from(created).wire());
                return agentkey::gate::Routes::created(created);
            }
            Step::Revoke(old) => {
                let revoked = ak.revoke_where(old.id, old.account, old.within).await;
                return agentkey::gate::Routes::revoked(revoked);
            }
        }
    }
}
