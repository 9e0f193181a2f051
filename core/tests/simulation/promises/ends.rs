//! What is promised of the ends of reservations: each ends once, and callers are told what became of it.

use std::collections::{BTreeMap, BTreeSet};

use agentkey::ReservationRefusal;
use agentkey::engine::{Answer, Statement};

use super::answers::money_of;
use super::{Ask, Checked, Promises};
use crate::database::Database;
use crate::database::text::array;

/// What callers were told of reservations.
#[derive(Debug, Default)]
pub struct Ends {
    fresh_settles: BTreeMap<String, u32>,
    releases: BTreeMap<String, u32>,
    /// How many reservations sweeps ended, and how many of them callers were told of.
    expired: u64,
    swept: u64,
}

impl Ends {
    pub(super) fn reservation_expired(&mut self) {
        self.expired += 1;
    }

    /// A sweep whose replies were lost tells of fewer than it ended, never of more.
    pub(super) fn check_sweep(&mut self, ended: u64) -> Checked {
        self.swept += ended;
        match self.swept <= self.expired {
            true => Ok(()),
            false => Err(format!("{} reservations are said to have ended, {} did", self.swept, self.expired)),
        }
    }
}

impl Promises {
    pub(super) fn ends_sent(&mut self, statement: &Statement) -> Checked {
        let ids = array(statement.params.first().and_then(|p| p.as_deref()).unwrap_or_default());
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return Err("a reservation is twice in one statement".to_owned());
        }
        for call in self.calls.values_mut() {
            if matches!(&call.ask, Ask::End { id, .. } if ids.contains(id)) {
                call.was_sent = true;
            }
        }
        Ok(())
    }

    /// A settle, release or extension is answered.
    pub(super) fn check_end(&mut self, db: &Database, ask: &Ask, answer: &Answer) -> Checked {
        let Ask::End { id, lookup, cost } = ask else { return Err("no end of a reservation".to_owned()) };
        let reservation = db.reservation(id);
        let wrong = || Err(format!("{ask:?} is answered {answer:?}, it is {reservation:?}"));
        let mut own = None;
        match (answer, reservation) {
            (Answer::Settled(Ok(done)), Some(r)) => {
                let overage = (done.cost_microcents - r.amount).max(0);
                if r.state != "settled"
                    || Some(done.cost_microcents) != r.cost
                    || Some(money_of(&done.balance)) != r.money
                    || done.overage_microcents != overage
                {
                    return wrong();
                }
                let fresh = self.ends.fresh_settles.entry(id.clone()).or_default();
                *fresh += u32::from(!done.replayed);
                if *fresh > 1 {
                    return wrong();
                }
                self.coverage.count("settle", if done.replayed { "replayed" } else { "recorded" });
                // Every settle asks for a cost of its own.
                own = (r.cost == Some(*cost)).then(|| r.draws.clone());
            }
            (Answer::Settled(Err(ReservationRefusal::Released)), Some(r)) if r.state == "released" => {
                self.coverage.count("settle", "released before");
            }
            // Nothing is recorded, whatever became of it since.
            (Answer::Settled(Err(ReservationRefusal::Unrecordable { cost_microcents })), Some(r))
                if *cost_microcents == *cost && r.cost != Some(*cost) =>
            {
                self.coverage.count("settle", "unrecordable");
            }
            (Answer::Released(Ok(true)), Some(r)) if r.state == "released" => {
                let releases = self.ends.releases.entry(id.clone()).or_default();
                *releases += 1;
                if *releases > 1 {
                    return wrong();
                }
                self.coverage.count("release", "given back");
            }
            (Answer::Released(Ok(false)), Some(r)) if r.state != "pending" => {}
            (Answer::Extended(Ok(expires_at)), Some(r))
                if r.extended_to.contains(&expires_at.timestamp()) =>
            {
                self.coverage.count("extend", "extended");
            }
            (Answer::Extended(Err(ReservationRefusal::Settled)), Some(r)) if r.state == "settled" => {}
            (Answer::Extended(Err(ReservationRefusal::Released)), Some(r)) if r.state == "released" => {}
            // It may have been settled since.
            (Answer::Extended(Err(ReservationRefusal::Expired)), Some(r))
                if ["expired", "settled"].contains(&r.state) => {}
            (Answer::Settled(Err(ReservationRefusal::UnknownReservation)), None)
            | (Answer::Released(Err(ReservationRefusal::UnknownReservation)), None)
            | (Answer::Extended(Err(ReservationRefusal::UnknownReservation)), None) => {
                self.coverage.count("settle", "unknown");
            }
            _ => return wrong(),
        }
        match own {
            Some(draws) => self.was_spent(&draws, *cost),
            None => self.was_not_spent(lookup, *cost),
        }
        Ok(())
    }
}
