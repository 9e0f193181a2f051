//! What a door asks of its application: what a request may cost, and what it did cost.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use ::http::request::Parts;
use ::http::{Extensions, StatusCode};

use crate::engine::Reservation;
use crate::http::Price;
use crate::key::grant::Grant;

/// How a request ended, for the `cost` of it.
#[derive(Clone)]
#[non_exhaustive]
pub struct RequestEnd {
    /// The status that was sent; `None` if none was.
    pub status: Option<StatusCode>,
    /// Whether the whole response was sent: false of one that its client left, or that broke off.
    pub completed: bool,
    /// The caller's key.
    pub grant: Grant,
    /// What was held for the request.
    pub reservation: Option<Reservation>,
    /// The head of the request, as the layer saw it.
    pub request: Arc<Parts>,
    /// What the handler put into the extensions of its response.
    pub response: Extensions,
}

/// The request holds the raw key, which is not shown.
impl std::fmt::Debug for RequestEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestEnd")
            .field("status", &self.status)
            .field("completed", &self.completed)
            .field("grant", &self.grant)
            .field("reservation", &self.reservation)
            .finish_non_exhaustive()
    }
}

type Answer = Pin<Box<dyn Future<Output = Price> + Send>>;

/// A question to the application about `T`.
pub(super) enum Question<T> {
    Told(Arc<dyn Fn(&T) -> Price + Send + Sync>),
    Awaited(Arc<dyn Fn(&T) -> Answer + Send + Sync>),
}

impl<T> Clone for Question<T> {
    fn clone(&self) -> Self {
        match self {
            Question::Told(tell) => Question::Told(Arc::clone(tell)),
            Question::Awaited(ask) => Question::Awaited(Arc::clone(ask)),
        }
    }
}

impl<T: Clone> Question<T> {
    pub(super) fn told<P: Into<Price>>(tell: impl Fn(&T) -> P + Send + Sync + 'static) -> Self {
        Question::Told(Arc::new(move |about| tell(about).into()))
    }

    pub(super) fn awaited<F>(ask: impl Fn(T) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output: Into<Price>> + Send + 'static,
    {
        Question::Awaited(Arc::new(move |about| {
            let answer = ask(about.clone());
            Box::pin(async move { answer.await.into() })
        }))
    }

    /// What the application says. A panic of it is a failure, and nothing more.
    pub(super) async fn ask(&self, about: &T) -> Price {
        let answered = match self {
            Question::Told(tell) => catch_unwind(AssertUnwindSafe(|| tell(about))),
            Question::Awaited(ask) => unwound(|| ask(about)).await,
        };
        answered.unwrap_or_else(|panic| Price::Failed(format!("it panicked: {}", message(&*panic))))
    }
}

/// Makes and runs a future. A panic of it is a value.
pub(super) async fn unwound<F: Future>(make: impl FnOnce() -> F) -> thread::Result<F::Output> {
    let mut future = std::pin::pin!(catch_unwind(AssertUnwindSafe(make))?);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
