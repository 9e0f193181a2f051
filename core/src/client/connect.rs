//! How statements get a connection, and why they get none.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::Mutex;

use super::home::Home;
use super::kept::{Kept, Lent};
use super::transport::not_sent;
use crate::engine::Fault;

/// The pool repeats a refused connection without a word until its time is over. A connection that takes longer than
/// this is asked why. So long is an answer good for all that wait, too.
const PATIENCE: Duration = Duration::from_millis(200);

/// Between two questions. Each opens a connection.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Answers the password of a connection that is about to be opened.
#[derive(Clone)]
pub(super) struct Password(pub(super) Arc<dyn Fn() -> String + Send + Sync>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

pub(super) struct Connector {
    home: Arc<Home>,
    first_pool: PgPool,
    /// Of the first pool.
    pub(super) kept: Kept,
    /// For the time after the runtime of the first one's connections.
    second_pool: OnceLock<PgPool>,
    password: Option<Password>,
    /// The servers of a name with several hosts, in order. Empty where there is only one.
    servers: Vec<PgConnectOptions>,
    /// What a connection beside the pool came to, and when.
    asked: Mutex<Option<(Instant, Result<(), Fault>)>>,
    /// Whether the way to the database is known to work.
    works: AtomicBool,
}

impl Connector {
    pub(super) fn new(
        home: &Arc<Home>,
        pool: PgPool,
        kept: Kept,
        mut servers: Vec<PgConnectOptions>,
        password: Option<Password>,
    ) -> Self {
        if servers.len() < 2 {
            servers.clear();
        }
        let works = AtomicBool::new(servers.is_empty());
        Connector {
            home: Arc::clone(home),
            first_pool: pool,
            kept,
            second_pool: OnceLock::new(),
            password,
            servers,
            asked: Mutex::new(None),
            works,
        }
    }

    pub(super) fn pool(&self) -> &PgPool {
        if !self.home.has_moved() {
            return &self.first_pool;
        }
        self.second_pool.get_or_init(|| {
            let _guard = self.home.enter();
            let options = self.first_pool.options().clone();
            options.connect_lazy_with((*self.first_pool.connect_options()).clone())
        })
    }

    /// A connection of the pool, or why there is none.
    pub(super) async fn acquire(&self) -> Result<Lent, Fault> {
        let works = self.works.load(Ordering::Relaxed);
        if works
            && !self.home.has_moved()
            && let Some(lent) = self.kept.take()
        {
            return Ok(lent);
        }
        if !works && !self.servers.is_empty() {
            // The pool must not connect to a server that takes no writes.
            self.ask().await?;
        }
        if self.pool().num_idle() == 0 {
            self.renew_password();
        }
        let mut acquiring = pin!(self.pool().acquire());
        let patience = if works { PATIENCE } else { Duration::ZERO };
        let acquired = match tokio::time::timeout(patience, &mut acquiring).await {
            Ok(acquired) => acquired.map_err(|error| self.not_had(error)),
            Err(_) => {
                let mut why = pin!(self.why());
                let first = poll_fn(|context| match acquiring.as_mut().poll(context) {
                    Poll::Ready(acquired) => Poll::Ready(acquired.map_err(|error| self.not_had(error))),
                    Poll::Pending => why.as_mut().poll(context).map(Err),
                });
                first.await
            }
        };
        self.works.store(acquired.is_ok(), Ordering::Relaxed);
        acquired.map(Lent::new)
    }

    /// Takes a connection back that can be used again. Whether somebody has to mind what is kept from now on.
    pub(super) fn give_back(&self, lent: Lent) -> bool {
        !self.home.has_moved() && !self.first_pool.is_closed() && self.kept.put(lent)
    }

    /// The pool reads its options for each connection that it opens.
    fn renew_password(&self) {
        if self.password.is_some() {
            self.pool().set_connect_options(self.with_password(&self.pool().connect_options()));
        }
    }

    /// Where a connection beside the pool would go.
    pub(super) fn options(&self) -> Arc<PgConnectOptions> {
        Arc::new(self.with_password(&self.pool().connect_options()))
    }

    fn with_password(&self, options: &PgConnectOptions) -> PgConnectOptions {
        match &self.password {
            Some(Password(password)) => options.clone().password(&password()),
            None => options.clone(),
        }
    }

    fn not_had(&self, error: sqlx::Error) -> Fault {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => not_sent(error),
            _ => not_sent(error).at(&place(&self.pool().connect_options())),
        }
    }

    /// Notes why a statement failed. Whether its connection is to be given up: of several servers, another one is the
    /// one to write to.
    pub(super) fn note(&self, fault: &Fault) -> bool {
        // read_only_sql_transaction: what was the primary no longer is.
        let has_moved = !self.servers.is_empty() && fault.sqlstate() == Some("25006");
        if has_moved || fault.may_have_taken_effect() {
            self.works.store(false, Ordering::Relaxed);
        }
        has_moved
    }

    /// Ends only when the pool would wait in vain.
    async fn why(&self) -> Fault {
        let mut pause = PATIENCE;
        loop {
            match self.ask().await {
                Err(fault) if fault.sqlstate().is_none() || !fault.is_transient() => return fault,
                // The pool may be let in soon: its connections are in use, or the server starts or has no free slot.
                Err(_) | Ok(()) => tokio::time::sleep(pause).await,
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Connects beside the pool. Of several servers, the pool goes on with the first that takes writes.
    async fn ask(&self) -> Result<(), Fault> {
        let mut asked = self.asked.lock().await;
        if let Some((at, answer)) = &*asked
            && at.elapsed() < PATIENCE
        {
            return answer.clone();
        }
        let answer = self.try_servers().await;
        *asked = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn try_servers(&self) -> Result<(), Fault> {
        if self.servers.is_empty() {
            return try_server(&self.with_password(&self.pool().connect_options()), false).await;
        }
        let mut faults = Vec::new();
        for server in &self.servers {
            let server = self.with_password(server);
            match try_server(&server, true).await {
                Ok(()) => {
                    self.pool().set_connect_options(server);
                    return Ok(());
                }
                Err(fault) => faults.push(fault),
            }
        }
        let all = faults.into_iter().reduce(|all, fault| all.and(&fault));
        Err(all.unwrap_or_else(|| Fault::not_sent("no server is named")))
    }
}

fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(directory) => directory.display().to_string(),
        None if options.get_host().contains(':') => {
            format!("[{}]:{}", options.get_host(), options.get_port())
        }
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

async fn try_server(options: &PgConnectOptions, must_write: bool) -> Result<(), Fault> {
    let place = place(options);
    let cannot_connect = |error: sqlx::Error| not_sent(error).at(&place);
    let limit = Duration::from_secs(5);
    let connecting = tokio::time::timeout(limit, options.connect());
    let mut connection: PgConnection =
        connecting.await.map_err(|_| Fault::not_sent("no answer").at(&place))?.map_err(cannot_connect)?;
    let takes_writes = if must_write {
        let setting = sqlx::query_scalar("SELECT current_setting('transaction_read_only')");
        let setting: String =
            setting.persistent(false).fetch_one(&mut connection).await.map_err(cannot_connect)?;
        setting == "off"
    } else {
        true
    };
    // It has served its purpose, however it ends.
    drop(connection.close().await);
    if takes_writes { Ok(()) } else { Err(Fault::not_sent("it takes no writes").at(&place)) }
}
