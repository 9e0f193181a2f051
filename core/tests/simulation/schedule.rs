//! A schedule: random steps in a world, and then its end, without faults.

use std::time::Duration;

use agentkey::engine::{MAX_CENTS, MICROCENTS_PER_CENT, Request, Revocation};
use agentkey::{Charge, Cost, CreateKey, Overrun, Period, ReservationId, Reserve};

use crate::coverage::Coverage;
use crate::promises::{Ask, Checked};
use crate::setup::{Name, SUBJECT};
use crate::world::World;

/// Runs the schedule of a seed.
pub fn run(seed: u64, is_traced: bool) -> Checked<Coverage> {
    let mut world = World::new(seed, is_traced);
    for _ in 0..world.setup.steps {
        step(&mut world)?;
    }
    world.come_to_rest()?;
    everything_works_again(&mut world)?;
    close(&mut world)?;
    Ok(world.promises.coverage)
}

fn step(world: &mut World) -> Checked {
    match world.random.below(100) {
        0..34 => submit(world),
        34..78 if !world.messages.is_empty() => {
            let n = world.random.below(world.messages.len());
            world.deliver(n)
        }
        78..90 => {
            let time = world.random.pick(&[1, 10, 10, 100, 100, 500, 1_000, 1_500, 11_000]);
            world.pass(Duration::from_millis(time))
        }
        90..92 => move_database_clock(world),
        92..94 => cancel(world),
        94 => restart(world),
        95.. if world.setup.has_foreign_clients => charge_as_another_client(world),
        _ => submit(world),
    }
}

fn submit(world: &mut World) -> Checked {
    let at = world.random.below(world.processes.len());
    let name = &world.names[world.random.below(world.names.len())].clone();
    let lookup = name.lookup.clone();
    let asked = match world.random.below(100) {
        0..30 => Some((Request::Validate(name.credential.clone()), Ask::Validate { lookup })),
        30..48 => spend(world, name),
        48..60 => end(world),
        60 => Some((Request::SweepReservations, Ask::Sweep)),
        61..90 => new_cost(world, &lookup).map(|cost| {
            let charge = Charge::new(Cost::Microcents(cost));
            (Request::Charge(name.credential.clone(), charge), Ask::Charge { lookup, cost })
        }),
        90..94 => {
            let id = world.db.find(&lookup).map_or(999, |key| key.id);
            Some((Request::Revoke(Revocation::of_key(id)), Ask::Revoke { id, lookup }))
        }
        94..98 => Some(creation(world)),
        _ => Some((Request::Migrate, Ask::Migrate)),
    };
    match asked {
        Some((request, ask)) => world.submit(at, request, ask).map(|_| ()),
        None => Ok(()),
    }
}

/// A spend in one of its other forms.
fn spend(world: &mut World, name: &Name) -> Option<(Request, Ask)> {
    let kind = world.random.pick(&['c', 'o', 'r', 'r']);
    let number = world.random.below(4);
    let idempotency_key = (kind == 'c' || world.random.chance(50)).then(|| format!("{kind}{number}"));
    let amount = match &idempotency_key {
        Some(_) => (number as i64 + 1) * 11 * MICROCENTS_PER_CENT,
        None => world.random.between(1, 150 * MICROCENTS_PER_CENT),
    };
    let cost = Cost::Microcents(amount);
    let credential = name.credential.clone();
    let request = match kind {
        'r' => {
            let mut reserve = Reserve::new(cost);
            reserve = reserve.ttl(Duration::from_secs(world.random.pick(&[1, 60, 600, 86_400])));
            if world.random.chance(40) {
                reserve = reserve.scope(world.random.pick(&["read", "write"]));
            }
            if let Some(key) = &idempotency_key {
                reserve = reserve.idempotency_key(key);
            }
            Request::Reserve(credential, reserve)
        }
        _ => {
            let overrun = if kind == 'o' { Overrun::Record } else { Overrun::Reject };
            let mut charge = Charge::new(cost).overrun(overrun);
            if let Some(key) = &idempotency_key {
                charge = charge.idempotency_key(key);
            }
            Request::Charge(credential, charge)
        }
    };
    let is_named = idempotency_key.is_some();
    let ask = Ask::Spend { lookup: name.lookup.clone(), kind, amount, idempotency_key };
    (is_named || world.promises.is_new_spend(&ask)).then_some((request, ask))
}

/// A settle, a release or an extension of a reservation, known or not.
fn end(world: &mut World) -> Option<(Request, Ask)> {
    let (id, lookup, held) = known_reservation(world)?;
    let at = id.as_str().to_owned();
    let (request, cost) = match world.random.below(10) {
        0..6 => {
            world.settles_asked += 1;
            let cents = world.random.between(0, held / MICROCENTS_PER_CENT + 20);
            // No other settle has this cost.
            let cost = cents * MICROCENTS_PER_CENT + world.settles_asked;
            (Request::Settle(id, Cost::Microcents(cost)), cost)
        }
        6..9 => (Request::Release(id), 0),
        _ => (Request::Extend(id, Duration::from_secs(60)), 0),
    };
    Some((request, Ask::End { id: at, lookup, cost }))
}

/// One of the last reservations, which are the likeliest to be open, with its key and what it holds; or none at all.
fn known_reservation(world: &mut World) -> Option<(ReservationId, String, i64)> {
    if world.random.chance(5) {
        let nobodys = ReservationId::parse("00000000-0000-4000-8000-000000000000")?;
        return Some((nobodys, world.names[0].lookup.clone(), 0));
    }
    let reservations = &world.db.companions.reservations;
    let from = reservations.len().saturating_sub(6);
    let reservation = reservations.get(from + world.random.below(reservations.len() - from))?;
    let key = world.db.keys.iter().find(|key| key.id == reservation.key)?;
    Some((ReservationId::parse(&reservation.id)?, key.lookup.clone(), reservation.amount))
}

/// A cost that no other charge of this key has: small, just what is left, or absurd.
fn new_cost(world: &mut World, lookup: &str) -> Option<i64> {
    let view = world.db.view(lookup);
    let cap = view.and_then(|view| view.budget_cents).unwrap_or(500);
    let fraction =
        if world.setup.has_fractions { world.random.between(0, MICROCENTS_PER_CENT - 1) } else { 0 };
    let cost = match (world.random.below(20), view) {
        (0..3, Some(view)) => view.cap() - view.reserved - view.used,
        (3, _) => (MAX_CENTS - world.random.between(0, 100)) * MICROCENTS_PER_CENT,
        _ => world.random.between(1, cap.max(20) / 2) * MICROCENTS_PER_CENT + fraction,
    };
    (cost > 0 && world.promises.is_new_cost(lookup, cost)).then_some(cost)
}

fn creation(world: &mut World) -> (Request, Ask) {
    let spec = CreateKey::new("7").budget_cents(world.random.between(0, 400));
    let spec = if world.random.chance(50) {
        spec.budget_period(Period::Hour).expires_in(Duration::from_secs(86_400))
    } else {
        spec
    };
    if world.random.chance(50) {
        return (Request::EnsureSubject(SUBJECT.to_owned(), spec), Ask::EnsureSubject);
    }
    world.creations_asked += 1;
    let name = format!("created {}", world.creations_asked);
    (Request::Create(spec.name(&name)), Ask::Create { name })
}

fn move_database_clock(world: &mut World) -> Checked {
    let periods = |world: &World| -> Vec<i64> {
        world.db.keys.iter().map(|key| key.own_view(world.db.now).period).collect()
    };
    let before = periods(world);
    world.db.now += world.random.pick(&[1, 30, 61, 1_800, 4_000, 86_400, 700_000]);
    world.trace(|| format!("the database's clock is at {}", world.db.now));
    if periods(world) != before {
        world.promises.coverage.count("database", "a period ended");
    }
    world.promises.check_books(&world.db)
}

fn cancel(world: &mut World) -> Checked {
    let open = world.promises.open_calls();
    if !open.is_empty() {
        let (process, ticket) = world.random.pick(&open);
        if let Some(process) = world.processes.iter_mut().find(|p| p.id == process) {
            process.engine.cancel(ticket);
        }
        world.trace(|| format!("the caller of {ticket:?} of process {process} is gone"));
        world.promises.cancelled(process, ticket);
    }
    Ok(())
}

/// A process is killed; what it has sent may still arrive. Another takes its place.
fn restart(world: &mut World) -> Checked {
    let at = world.random.below(world.processes.len());
    let fresh = world.start();
    let gone = std::mem::replace(&mut world.processes[at], fresh).id;
    world.trace(|| format!("process {gone} is killed"));
    let random = &mut world.random;
    world.messages.retain(|message| message.process() != gone || random.chance(50));
    world.promises.process_gone(gone);
    world.promises.coverage.count("engine", "restarted");
    Ok(())
}

fn charge_as_another_client(world: &mut World) -> Checked {
    let lookup = &world.names[world.random.below(world.names.len())].lookup.clone();
    let cents = world.random.between(1, 60);
    if world.db.charge_as_original(lookup, cents) {
        world.trace(|| format!("another client charges {lookup} {cents} cents"));
        world.promises.coverage.count("database", "charged by another client");
        world.promises.foreign_charge(&world.db, lookup, cents * MICROCENTS_PER_CENT)?;
    }
    Ok(())
}

/// After the last fault a call succeeds, without a restart.
fn everything_works_again(world: &mut World) -> Checked {
    world.promises.faults_are_over = true;
    world.submit(0, Request::Migrate, Ask::Migrate)?;
    world.come_to_rest()?;
    for (n, name) in world.names.clone().iter().enumerate() {
        let at = n % world.processes.len();
        let ask = Ask::Validate { lookup: name.lookup.clone() };
        world.submit(at, Request::Validate(name.credential.clone()), ask)?;
        if let Some(cost) = new_cost(world, &name.lookup) {
            let ask = Ask::Charge { lookup: name.lookup.clone(), cost };
            let charge = Charge::new(Cost::Microcents(cost));
            world.submit(at, Request::Charge(name.credential.clone(), charge), ask)?;
        }
        if let Some((request, ask)) = spend(world, name) {
            world.submit(at, request, ask)?;
        }
    }
    world.come_to_rest()
}

fn close(world: &mut World) -> Checked {
    let name = world.names[0].clone();
    for at in 0..world.processes.len() {
        world.processes[at].engine.close();
        let ask = Ask::Validate { lookup: name.lookup.clone() };
        if world.submit(at, Request::Validate(name.credential.clone()), ask)?.is_some() {
            return Err("a closed engine takes a request".to_owned());
        }
    }
    world.come_to_rest()
}
