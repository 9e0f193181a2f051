//! Those who spend while keys are changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use agentkey::{AgentKey, Charge, ChargeRefusal, Cost, ReservationId, Reserve};

use crate::support::Dice;

/// What spenders know: secrets, of which many count no more, and what they were told.
#[derive(Debug, Default)]
pub struct Purse {
    known: Mutex<Vec<(usize, String)>>,
    /// For each key, in micro-cents: what was recorded for it, and what its open reservations hold.
    books: Mutex<Vec<Book>>,
    pub is_over: AtomicBool,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Book {
    pub spent: i64,
    pub held: i64,
}

impl Purse {
    pub fn learn(&self, key: usize, secret: &str) {
        self.known.lock().unwrap().push((key, secret.to_owned()));
        let mut books = self.books.lock().unwrap();
        if books.len() <= key {
            books.resize_with(key + 1, Book::default);
        }
    }

    fn any(&self, dice: &mut Dice) -> (usize, String) {
        let known = self.known.lock().unwrap();
        known[dice.roll(known.len())].clone()
    }

    pub fn record(&self, key: usize, spent: i64, held: i64) {
        let book = &mut self.books.lock().unwrap()[key];
        book.spent += spent;
        book.held += held;
    }

    pub fn book(&self, key: usize) -> Book {
        self.books.lock().unwrap()[key]
    }
}

/// Spends with any secret until the sequence is over; some of what it reserves stays open.
pub async fn spend(ak: AgentKey, other: AgentKey, purse: Arc<Purse>, seed: u64) {
    let mut dice = Dice(seed);
    let mut calls = 0;
    while !purse.is_over.load(Ordering::Relaxed) {
        calls += 1;
        let (key, secret) = purse.any(&mut dice);
        let amount = 1 + dice.roll(40_000_000) as i64;
        match dice.roll(4) {
            0 => {
                let charged = ak.track_usage(&secret, Cost::microcents(amount)).await.unwrap();
                recorded(&purse, key, amount, charged.map(drop));
            }
            1 => {
                // Twice at once, in two processes: recorded once.
                let charge =
                    || Charge::new(Cost::microcents(amount)).idempotency_key(format!("{seed} {calls}"));
                let (one, two) =
                    tokio::join!(ak.track_usage(&secret, charge()), other.track_usage(&secret, charge()));
                let outcomes = [one.unwrap(), two.unwrap()];
                let first =
                    outcomes.iter().filter(|outcome| matches!(outcome, Ok(charged) if !charged.replayed));
                let count = first.count();
                assert!(count <= 1, "{outcomes:?}");
                if count == 1 {
                    purse.record(key, amount, 0);
                }
            }
            _ => {
                let Ok(held) = ak.reserve(&secret, Reserve::new(Cost::microcents(amount))).await.unwrap()
                else {
                    continue;
                };
                purse.record(key, 0, amount);
                end(&other, &purse, key, &held.id, amount, &mut dice).await;
            }
        }
    }
}

async fn end(ak: &AgentKey, purse: &Purse, key: usize, id: &ReservationId, amount: i64, dice: &mut Dice) {
    let spent = match dice.roll(8) {
        0 => return,
        1 => {
            let _ = ak.release(id).await.unwrap().unwrap();
            0
        }
        _ => {
            let part = 1 + dice.roll(amount as usize) as i64;
            let _ = ak.settle(id, Cost::microcents(part)).await.unwrap().unwrap();
            part
        }
    };
    purse.record(key, spent, -amount);
}

fn recorded(purse: &Purse, key: usize, amount: i64, outcome: Result<(), ChargeRefusal>) {
    match outcome {
        Ok(()) => purse.record(key, amount, 0),
        Err(ChargeRefusal::InvalidKey | ChargeRefusal::BudgetExceeded) => {}
        Err(refusal) => panic!("{refusal}"),
    }
}
