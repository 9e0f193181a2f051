//! What is done to the keys of a sequence, one thing after the other, and what must come of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agentkey::engine::{Credential, IncreaseDecision, IncreaseRefusalReason, IncreaseRequest};
use agentkey::{
    AgentKey, Charge, ChargeRefusal, Cost, CreateKey, DenialReason, KeyId, KeyLimit, KeyUpdate, Period,
    RevokeFilter, Rotate, RotateRefusal,
};

use crate::model::{CENT, Entries, Key, Model};
use crate::spend::Purse;
use crate::support::Dice;

const HOUR: Duration = Duration::from_secs(3_600);
const PERIODS: [Period; 3] = [Period::Day, Period::Week, Period::Year];
/// Keys of a sequence at most.
const KEYS: usize = 12;

pub struct Sequence {
    clients: Vec<AgentKey>,
    purse: Arc<Purse>,
    dice: Dice,
    account: String,
    pub model: Model,
    /// How often each thing was done.
    pub done: BTreeMap<&'static str, usize>,
}

impl Sequence {
    pub async fn begin(clients: Vec<AgentKey>, purse: Arc<Purse>, seed: u64) -> Sequence {
        let (model, done) = (Model::default(), BTreeMap::new());
        let account = format!("acct_{seed}");
        let mut sequence = Sequence { clients, purse, dice: Dice(seed), account, model, done };
        for _ in 0..3 {
            sequence.create().await;
        }
        sequence
    }

    /// A process, any.
    fn ak(&mut self) -> AgentKey {
        let place = self.dice.roll(self.clients.len());
        self.clients[place].clone()
    }

    fn any(&mut self) -> usize {
        self.dice.roll(self.model.keys.len())
    }

    fn id(&self, key: usize) -> KeyId {
        self.model.keys[key].id.clone()
    }

    pub async fn step(&mut self) {
        let key = self.any();
        let what = match self.dice.roll(20) {
            0 | 1 if self.model.keys.len() < KEYS => {
                self.create().await;
                "create"
            }
            0..6 => {
                self.update(key).await;
                "update"
            }
            6..9 => {
                self.rotate(key).await;
                "rotate"
            }
            9..12 => {
                self.switch(key).await;
                "disable or enable"
            }
            12 => {
                self.revoke(key).await;
                "revoke"
            }
            13 if self.dice.roll(3) == 0 => {
                self.revoke_all(key).await;
                "revoke all"
            }
            13..16 => {
                self.refund(key).await;
                "refund"
            }
            16..18 => {
                self.increase(key).await;
                "increase"
            }
            _ => {
                self.charge(key).await;
                "charge"
            }
        };
        *self.done.entry(what).or_default() += 1;
        let key = self.any();
        self.check(key).await;
    }

    async fn create(&mut self) {
        let parents: Vec<usize> = (0..self.model.keys.len())
            .filter(|key| self.model.denial(*key).is_none() && self.model.chain(*key).len() < 5)
            .collect();
        let parent = match self.dice.roll(parents.len() + 1) {
            0 => None,
            place => Some(parents[place - 1]),
        };
        let human = format!("human {} of {}", self.dice.roll(2), self.account);
        let mut spec = match parent {
            Some(parent) => CreateKey::child_of(self.id(parent)),
            None => CreateKey::new(self.account.as_str()),
        };
        spec = spec.delegated_by(human.as_str());
        spec.budget_cents = [None, Some(200), Some(2_000), Some(50_000)][self.dice.roll(4)];
        spec.budget_period = [None, Some(Period::Day), Some(Period::Month)][self.dice.roll(3)];
        if self.dice.roll(4) == 0 {
            spec = spec.limits([KeyLimit::new(1_500).every(Period::Week)]);
        }
        let (budget_cents, period) = (spec.budget_cents, spec.budget_period);
        let created = self.ak().create(spec).await.unwrap();
        let secret = created.key.expose().to_owned();
        self.purse.learn(self.model.keys.len(), &secret);
        self.model.keys.push(Key {
            id: created.id,
            parent,
            human,
            name: "default".to_owned(),
            budget_cents,
            boost_cents: 0,
            most_cents: budget_cents,
            period: period.map(|period| period.to_string()),
            is_disabled: false,
            is_revoked: false,
            secret,
            former: None,
            dead: Vec::new(),
            entries: Entries::default(),
        });
    }

    async fn update(&mut self, key: usize) {
        let mut changes = KeyUpdate::new();
        let id = self.id(key);
        let known = &mut self.model.keys[key];
        if self.dice.roll(2) == 0 {
            changes.budget_cents =
                Some([None, Some(0), Some(100), Some(3_000), Some(40_000)][self.dice.roll(5)]);
            known.budget_cents = changes.budget_cents.flatten();
            known.budget_changed();
        }
        if self.dice.roll(3) == 0 {
            let period = PERIODS[self.dice.roll(PERIODS.len())];
            changes = changes.budget_period(period);
            known.period = Some(period.to_string());
        }
        if changes == KeyUpdate::new() || self.dice.roll(3) == 0 {
            known.name = format!("name {}", self.dice.roll(1_000));
            changes = changes.name(known.name.as_str());
        }
        if self.dice.roll(6) == 0 {
            known.is_disabled = self.dice.roll(2) == 0;
            changes = changes.disabled(known.is_disabled);
        }
        known.entries.update += 1;
        assert!(self.ak().update(id, changes).await.unwrap().is_some());
        self.check(key).await;
    }

    async fn switch(&mut self, key: usize) {
        let (id, ak) = (self.id(key), self.ak());
        let is_disabled = self.dice.roll(3) == 0;
        let record = if is_disabled { ak.disable(id).await } else { ak.enable(id).await };
        assert!(record.unwrap().is_some());
        let known = &mut self.model.keys[key];
        known.is_disabled = is_disabled;
        if is_disabled {
            known.entries.disable += 1;
        } else {
            known.entries.enable += 1;
        }
        self.check(key).await;
    }

    async fn rotate(&mut self, key: usize) {
        let known = &self.model.keys[key];
        let grace = [HOUR, Duration::ZERO][self.dice.roll(2)];
        let by: Credential = match self.dice.roll(3) {
            0 => known.id.clone().into(),
            1 => Credential::of_key(&known.secret),
            _ => Credential::of_key(known.former.as_ref().unwrap_or(&known.secret)),
        };
        let name = format!("rotation {}", known.entries.rotate);
        let is_revoked = known.is_revoked;
        let rotate = || Rotate::new().grace(grace).idempotency_key(name.as_str());
        let rotated = self.ak().rotate(by, rotate()).await.unwrap();
        if is_revoked {
            assert_eq!(rotated.unwrap_err(), RotateRefusal::Revoked);
            return;
        }
        let secret = rotated.unwrap().key.expose().to_owned();
        self.purse.learn(key, &secret);
        self.model.keys[key].rotated(secret, !grace.is_zero());
        if self.dice.roll(3) == 0 {
            // Its answer was lost: the secret that nobody saw is replaced, and the one before stays what it is.
            let again = self.ak().rotate(self.id(key), rotate()).await.unwrap().unwrap();
            let secret = again.key.expose().to_owned();
            self.purse.learn(key, &secret);
            let known = &mut self.model.keys[key];
            known.dead.push(std::mem::replace(&mut known.secret, secret));
        }
        self.check(key).await;
    }

    async fn revoke(&mut self, key: usize) {
        let was_live = !self.model.keys[key].is_revoked;
        assert_eq!(self.ak().revoke(self.id(key)).await.unwrap(), was_live);
        self.revoked(key);
        for below in 0..self.model.keys.len() {
            if below == key || self.model.is_below(below, key) {
                self.check(below).await;
            }
        }
    }

    fn revoked(&mut self, key: usize) {
        let known = &mut self.model.keys[key];
        known.entries.revoke += i64::from(!known.is_revoked);
        known.is_revoked = true;
    }

    async fn revoke_all(&mut self, key: usize) {
        let every = 0..self.model.keys.len();
        let human = self.model.keys[key].human.clone();
        let (filter, meant): (RevokeFilter, Vec<usize>) = match self.dice.roll(5) {
            0 => (RevokeFilter::Account(self.account.as_str().into()), every.collect()),
            1 | 2 => {
                let meant = every.filter(|other| self.model.keys[*other].human == human).collect();
                (RevokeFilter::DelegatedBy(human), meant)
            }
            _ => {
                let meant = every.filter(|other| self.model.is_below(*other, key)).collect();
                (RevokeFilter::Parent(self.id(key)), meant)
            }
        };
        let live = meant.iter().filter(|key| !self.model.keys[**key].is_revoked).count();
        assert_eq!(self.ak().revoke_all(filter).await.unwrap(), live as u64);
        meant.into_iter().for_each(|key| self.revoked(key));
        self.check_keys().await;
        // Life goes on.
        self.create().await;
    }

    async fn refund(&mut self, key: usize) {
        let spent = self.purse.book(key).spent;
        if spent == 0 {
            return;
        }
        let amount = 1 + self.dice.roll(spent as usize) as i64;
        let name = format!("refund {}", self.model.keys[key].entries.refund);
        let refund = || Charge::new(Cost::microcents(amount)).idempotency_key(name.as_str());
        let first = self.ak().refund(self.id(key), refund()).await.unwrap().unwrap();
        assert!(!first.replayed);
        if self.dice.roll(2) == 0 {
            assert!(self.ak().refund(self.id(key), refund()).await.unwrap().unwrap().replayed);
        }
        self.purse.record(key, -amount, 0);
        self.model.keys[key].entries.refund += 1;
    }

    async fn increase(&mut self, key: usize) {
        let cents = [100, 1_000][self.dice.roll(2)];
        let asked = Credential::of_key(&self.model.keys[key].secret);
        let asked = self.ak().request_increase(asked, IncreaseRequest::new(cents, 24 * HOUR)).await.unwrap();
        let refused = match self.model.denial(key) {
            Some(DenialReason::Revoked) => Some(IncreaseRefusalReason::Revoked),
            Some(_) => Some(IncreaseRefusalReason::Disabled),
            None => self.model.keys[key].cap().is_none().then_some(IncreaseRefusalReason::NoBudget),
        };
        let request = match asked {
            Ok(recorded) => recorded.request.id,
            Err(refusal) => return assert_eq!(Some(refusal.reason), refused),
        };
        assert_eq!(refused, None);
        self.model.keys[key].entries.request_increase += 1;
        let approve = self.dice.roll(4) > 0;
        let decision = || {
            if approve { IncreaseDecision::approve("ana") } else { IncreaseDecision::deny("ana") }
        };
        // Two decide at once: it is done once.
        let (one, two) = (self.ak(), self.ak());
        let (one, two) =
            tokio::join!(one.decide_increase(request, decision()), two.decide_increase(request, decision()));
        let cap = self.model.keys[key].cap().unwrap();
        let above = self.model.chain(key).into_iter().skip(1);
        let is_bounded = above.filter_map(|key| self.model.keys[key].cap()).any(|above| above < cap + cents);
        let outcomes = [one.unwrap(), two.unwrap()];
        if approve && is_bounded {
            for outcome in outcomes {
                assert_eq!(outcome.unwrap_err().reason, IncreaseRefusalReason::ExceedsAncestor);
            }
            // Nobody else may decide it later.
            let _ = self.ak().decide_increase(request, IncreaseDecision::deny("ana")).await.unwrap().unwrap();
            self.model.keys[key].entries.deny_increase += 1;
            return;
        }
        let replayed = outcomes.into_iter().filter(|outcome| outcome.as_ref().unwrap().replayed).count();
        assert_eq!(replayed, 1);
        let known = &mut self.model.keys[key];
        if approve {
            known.boost_cents += cents;
            known.budget_changed();
            known.entries.approve_increase += 1;
        } else {
            known.entries.deny_increase += 1;
        }
        self.check(key).await;
    }

    async fn charge(&mut self, key: usize) {
        let amount = 1 + self.dice.roll(20_000_000) as i64;
        match self.ak().track_usage_by_id(self.id(key), Cost::microcents(amount)).await.unwrap() {
            Ok(_) => {
                assert!(self.model.can_be_charged(key));
                self.purse.record(key, amount, 0);
            }
            Err(ChargeRefusal::InvalidKey) => assert!(!self.model.can_be_charged(key)),
            Err(refusal) => {
                assert_eq!(refusal, ChargeRefusal::BudgetExceeded);
                assert!(self.model.can_be_charged(key));
            }
        }
    }

    pub async fn check_keys(&mut self) {
        for key in 0..self.model.keys.len() {
            self.check(key).await;
        }
    }

    /// A key's row says what was done to it, and each of its secrets counts or not.
    async fn check(&mut self, key: usize) {
        let ak = self.ak();
        let known = self.model.keys[key].clone();
        let denial = self.model.denial(key);
        let record = ak.get(known.id.clone()).await.unwrap().unwrap();
        assert_eq!(record.grant.name, known.name);
        assert_eq!(record.grant.budget_cents, known.cap());
        assert_eq!(record.grant.budget_period, known.period);
        assert_eq!(record.disabled_at.is_some(), known.is_disabled);
        assert_eq!(record.revoked_at.is_some(), known.is_revoked);
        assert_eq!(record.previous_expires_at.is_some(), known.former.is_some());
        let parent = known.parent.map(|parent| self.id(parent));
        assert_eq!(record.parent_id, parent);
        let is_over = Some(DenialReason::BudgetExceeded);
        assert!(record.reason == denial || denial.is_none() && record.reason == is_over, "{record:?}");
        for secret in [Some(&known.secret), known.former.as_ref()].into_iter().flatten() {
            let refused = ak.validate(secret).await.unwrap().err().map(|denial| denial.reason);
            assert!(
                refused == denial || denial.is_none() && refused == is_over,
                "{refused:?} is not {denial:?}"
            );
        }
        if let Some(secret) = known.dead.last() {
            let refused = ak.validate(secret).await.unwrap().unwrap_err();
            assert_eq!(refused.reason, DenialReason::Invalid);
            let charged = ak.track_usage(secret, Cost::microcents(CENT)).await.unwrap();
            assert_eq!(charged.unwrap_err(), ChargeRefusal::InvalidKey);
        }
    }
}
