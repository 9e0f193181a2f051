//! Alarms that time causes: keys that soon expire, and reservations that stay open. Whoever reads alarms raises them first.

use std::time::Duration;

use super::admin::{Admin, Next, Plan};
use super::batch::Pending;
use super::deliveries::DeliveryWork;
use super::ledger::LedgerWork;
use super::rows::fields;
use super::spends::NEEDED;
use super::{Engine, Options};
use crate::error::Error;
use crate::table::shape::ALARMS;
use crate::table::template::{StatementKind, Statements};

/// They are raised this often at most.
const PAUSE: Duration = Duration::from_secs(60);
/// So many of each kind by one statement.
const MOST: u64 = 1_000;

/// Raises them, and then goes on with what reads them.
#[derive(Debug, Clone)]
pub(super) enum Notices {
    Ledger(LedgerWork),
    Deliveries(DeliveryWork),
}

impl Notices {
    /// `None` if it reads no alarms.
    fn before(work: &Admin) -> Option<Self> {
        match work {
            Admin::Ledger(work @ LedgerWork::Follow(follow)) if follow.filter.alarms => {
                Some(Notices::Ledger(work.clone()))
            }
            Admin::Deliveries(work @ DeliveryWork::Claim { .. }) => Some(Notices::Deliveries(work.clone())),
            _ => None,
        }
    }

    pub(super) fn plan(&self, statements: &Statements, options: &Options) -> Result<Plan, Error> {
        statements.shape.require(NEEDED)?;
        statements.shape.require(&[ALARMS])?;
        let seconds = |option: Option<u32>| option.map(|seconds| seconds.to_string());
        let params = vec![
            seconds(options.expiry_notice_seconds),
            seconds(options.stale_hold_seconds),
            Some(MOST.to_string()),
        ];
        let kind = StatementKind::RaiseNotices;
        Ok(Plan::Send(kind, statements.sql(kind), params))
    }

    pub(super) fn after(&self, rows: &[String]) -> Result<Next, Error> {
        let row = rows.first().ok_or_else(|| Error::unexpected("no count of alarms"))?;
        let counts: [_; 2] = fields(row, "a count of alarms")?;
        let is_full = counts.iter().flatten().any(|count| count.parse::<u64>().is_ok_and(|n| n >= MOST));
        Ok(Next::Continue(match self.clone() {
            notices if is_full => Admin::Notices(notices),
            Notices::Ledger(work) => Admin::Ledger(work),
            Notices::Deliveries(work) => Admin::Deliveries(work),
        }))
    }
}

impl Engine {
    /// What reads alarms raises those of time first, if that was not done lately. An error is told to its caller; the next
    /// call reads what there is.
    pub(super) fn with_notices(&mut self, now: Duration, request: Pending<Admin>) -> Pending<Admin> {
        let Options { expiry_notice_seconds, stale_hold_seconds, .. } = self.options;
        let is_due =
            now >= self.notices_at && (expiry_notice_seconds.is_some() || stale_hold_seconds.is_some());
        match Notices::before(&request.work).filter(|_| is_due) {
            Some(notices) => {
                self.notices_at = now.saturating_add(PAUSE);
                request.with_work(Admin::Notices(notices))
            }
            None => request,
        }
    }
}
