//! What a handler is told of its caller.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use super::admitted::{Admitted, End};
use crate::engine::Reservation;
use crate::error::Error;
use crate::http::Price;
use crate::key::grant::Grant;

/// The caller's key, behind an [`AgentKeyLayer`](super::AgentKeyLayer): its [`Grant`], what is held for the request, and
/// [`charge`](CallerGrant::charge).
///
/// It is in the extensions of the request. With the feature `axum` it is an extractor. A WebSocket ends when the last clone
/// of it is dropped: keep one for as long as the socket is served.
#[derive(Clone)]
pub struct CallerGrant(Arc<Inner>);

struct Inner {
    admitted: Arc<Admitted>,
    /// The end of a request that became a connection of its own.
    end: Mutex<Option<End>>,
}

impl CallerGrant {
    pub(super) fn new(admitted: &Arc<Admitted>) -> Self {
        CallerGrant(Arc::new(Inner { admitted: Arc::clone(admitted), end: Mutex::default() }))
    }

    /// Says what the request costs: cents, or a [`Cost`](crate::Cost). What is said adds up, is recorded when the response
    /// has ended, and counts instead of the layer's `cost` and `reserve_cents`.
    ///
    /// # Errors
    /// `invalid_text` if that is no amount, or if the request has ended.
    pub fn charge(&self, amount: impl Into<Price>) -> Result<(), Error> {
        self.0.admitted.charge(&amount.into())
    }

    /// What is held for the request, to extend it: `ak.extend(&reservation.id, ttl)`.
    pub fn reservation(&self) -> Option<&Reservation> {
        self.0.admitted.reservation.as_ref()
    }

    /// The request ends when the last clone is dropped.
    pub(super) fn keep(&self, end: End) {
        *self.0.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    #[cfg(feature = "axum")]
    pub(super) fn admitted(&self) -> &Admitted {
        &self.0.admitted
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(end) = self.end.get_mut().unwrap_or_else(PoisonError::into_inner) {
            if std::thread::panicking() { end.threw() } else { end.completed() }
        }
    }
}

impl Deref for CallerGrant {
    type Target = Grant;

    fn deref(&self) -> &Grant {
        &self.0.admitted.grant
    }
}

impl std::fmt::Debug for CallerGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallerGrant")
            .field("grant", &**self)
            .field("reservation", &self.0.admitted.reservation)
            .finish_non_exhaustive()
    }
}
