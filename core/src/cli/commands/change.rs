//! What changes keys: `create`, `update`, `disable`, `enable`, `revoke`, `revoke-all`.

use super::keys::{get, object, read, tell};
use super::{mismatch, no_such_key};
use crate::budget::limit::KeyLimit;
use crate::budget::money::{Cost, MICROCENTS_PER_CENT};
use crate::cli::args::{Budget, Create, RevokeAll, Rotate, Update};
use crate::cli::host::{Exit, Host, Outcome, Stop};
use crate::cli::table::facts;
use crate::cli::text::{cell, cents, time};
use crate::engine::{Answer, Request, Revocation, RevokeFilter};
use crate::error::{Error, ErrorCode, shortened};
use crate::id::KeyId;
use crate::key::credential::Credential;
use crate::key::delegation::Parent;
use crate::key::new_key::{CreateKey, Created};
use crate::key::record::{KeyFilter, KeyRecord, KeyUpdate};
use crate::key::rotation::{self, RotateRefusal};

impl Budget {
    fn cents(&self) -> Result<Option<i64>, Error> {
        let Some(usd) = &self.budget_usd else { return Ok(self.budget_cents) };
        let text = usd.strip_prefix('$').unwrap_or(usd);
        let is_zero = !text.starts_with('-')
            && text.bytes().any(|b| b == b'0')
            && text.bytes().all(|b| b"0.".contains(&b));
        match Cost::from_usd(text) {
            Cost::Microcents(amount) if amount % MICROCENTS_PER_CENT == 0 && amount < i64::MAX => {
                Ok(Some(amount / MICROCENTS_PER_CENT))
            }
            Cost::Free if is_zero => Ok(Some(0)),
            _ => Err(Error::new(
                ErrorCode::InvalidBudget,
                format!(
                    "Invalid --budget-usd: {}; give dollars and whole cents, such as 12.50",
                    shortened(usd)
                ),
            )),
        }
    }
}

/// Reads what a flag says; an error names the flag.
fn read_flag<T>(
    flag: &str,
    value: Option<&str>,
    read: impl Fn(&str) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    value.map(|value| named(flag, read(value))).transpose()
}

fn named<T>(flag: &str, read: Result<T, Error>) -> Result<T, Error> {
    read.map_err(|error| Error::new(error.code(), format!("{flag}: {}", error.message())))
}

fn duration(text: &str) -> Result<std::time::Duration, Error> {
    let none = || {
        Error::new(ErrorCode::InvalidDuration, "Invalid duration: it is empty; give digits and m, h, d or mo")
    };
    crate::duration::read(Some(text))?.ok_or_else(none)
}

/// Reads `2000/month`, `200/5m:disable`, `5000`.
fn limits(texts: &[String]) -> Result<Vec<KeyLimit>, Error> {
    let limit = |text: &String| {
        let wrong = |why: &str| {
            let message = format!("Invalid limit: {}; {why}", shortened(text));
            Error::new(ErrorCode::InvalidBudget, message)
        };
        let (amount, then) = text.split_once(':').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        let (cents, period) = amount.split_once('/').map_or((amount, None), |(a, b)| (a, Some(b)));
        let cents = cents.parse().map_err(|_| wrong("give cents, such as 2000/month or 200/5m:disable"))?;
        let limit = match period {
            Some(period) => KeyLimit::new(cents).every(period.parse()?),
            None => KeyLimit::new(cents),
        };
        let when_exceeded = then.map(str::parse).transpose()?.unwrap_or_default();
        Ok(KeyLimit { when_exceeded, ..limit })
    };
    named("--limit", texts.iter().map(limit).collect())
}

pub(super) async fn create(host: &Host, create: Create) -> Outcome {
    let spec = CreateKey {
        account_id: create.account.map(Into::into),
        user_id: create.user,
        scopes: create.scopes,
        budget_cents: create.budget.cents()?,
        budget_period: read_flag("--budget-period", create.budget.budget_period.as_deref(), str::parse)?,
        limits: limits(&create.limit)?,
        expires_in: read_flag("--expires-in", create.expires_in.as_deref(), duration)?,
        delegated_by: create.delegated_by,
        name: create.name,
        metadata: create.metadata.as_deref().map(|text| object("--metadata", text)).transpose()?,
        parent: create.parent.map(Parent::Id),
    };
    host.takes_secrets()?;
    let answer = host.call(Request::Create(spec)).await?;
    let Answer::Created(created) = answer else { return Err(mismatch(&answer)) };
    let secret = match host.look.json {
        true => Answer::Created(created.clone()).json(true),
        false => created.key.expose().to_owned(),
    };
    let id = cell(&created.id.to_string());
    let lost = format!(
        "key {id} was created, but its secret could not be written: revoke it with `agentkey revoke {id}`"
    );
    hand_out(host, secret, &lost).await?;
    host.progress(about(&created)).await?;
    Ok(Exit::Done)
}

/// A secret is shown only once: where it cannot be written, people are told what to do.
async fn hand_out(host: &Host, secret: String, lost: &str) -> Outcome<()> {
    if let Err(stop) = host.out(secret).await {
        host.note(format!("error: {lost}")).await?;
        return Err(stop);
    }
    Ok(())
}

fn about(created: &Created) -> String {
    let budget = match (created.budget_cents, created.budget_period) {
        (None, _) => String::new(),
        (Some(budget), None) => format!("{} for life", cents(budget)),
        (Some(budget), Some(period)) => format!("{} a {}", cents(budget), period),
    };
    let scopes = match created.scopes.as_deref() {
        None => "everything".to_owned(),
        Some([]) => "nothing".to_owned(),
        Some(scopes) => scopes.iter().map(|scope| cell(scope)).collect::<Vec<_>>().join(", "),
    };
    let about = facts(&[
        ("Key", cell(&created.id.to_string())),
        ("Scopes", scopes),
        ("Budget", budget),
        ("Expires", created.expires_at.as_ref().map(|at| format!("{} UTC", time(at))).unwrap_or_default()),
    ]);
    format!("{about}Its secret is shown only this once.")
}

pub(super) async fn update(host: &Host, update: Update) -> Outcome {
    let budget = update.budget.cents()?.map(Some).or(update.no_budget.then_some(None));
    let period = read_flag("--budget-period", update.budget.budget_period.as_deref(), str::parse)?;
    let expires_in = read_flag("--expires-in", update.expires_in.as_deref(), duration)?;
    let changes = KeyUpdate {
        name: update.name,
        scopes: update.scopes.map(Some).or(update.all_scopes.then_some(None)),
        budget_cents: budget,
        budget_period: period.map(Some).or(update.no_period.then_some(None)),
        limits: (update.no_limits || !update.limit.is_empty()).then(|| limits(&update.limit)).transpose()?,
        expires_in: expires_in.map(Some).or(update.no_expiry.then_some(None)),
        metadata: None,
        disabled: None,
    };
    change(host, &update.key.id, changes).await
}

pub(super) async fn switch(host: &Host, id: &str, off: bool) -> Outcome {
    change(host, id, KeyUpdate::new().disabled(off)).await
}

/// Changes a key, and shows it as it is then.
async fn change(host: &Host, id: &str, changes: KeyUpdate) -> Outcome {
    match host.call(Request::Update(id.into(), changes)).await? {
        Answer::Key(Some(key)) => tell(host, *key).await,
        Answer::Key(None) => Err(no_such_key(id)),
        other => Err(mismatch(&other)),
    }
}

pub(super) async fn rotate(host: &Host, rotate: Rotate) -> Outcome {
    let id = &rotate.key.id;
    let grace = named("--grace", rotation::read_grace(&rotate.grace))?;
    let with = rotation::Rotate { grace, idempotency_key: rotate.idempotency_key };
    host.takes_secrets()?;
    let answer = host.call(Request::Rotate(Credential::Id(id.as_str().into()), with)).await?;
    let Answer::Rotated(outcome) = answer else { return Err(mismatch(&answer)) };
    let rotated = match outcome {
        Ok(rotated) => rotated,
        Err(RotateRefusal::InvalidKey) => return Err(no_such_key(id)),
        Err(refusal @ RotateRefusal::Revoked) => {
            return Err(Stop::Usage(format!("key {} is {refusal}: create another", cell(id))));
        }
        Err(RotateRefusal::IdempotencyConflict) => {
            let why = "--idempotency-key was used before, for something else or for an earlier rotation";
            return Err(Stop::Usage(why.to_owned()));
        }
    };
    let secret = match host.look.json {
        true => Answer::Rotated(Ok(rotated.clone())).json(true),
        false => rotated.key.expose().to_owned(),
    };
    let lost = format!("key {} has a new secret, which could not be written: rotate it again", cell(id));
    hand_out(host, secret, &lost).await?;
    let before = match &rotated.previous_expires_at {
        Some(at) => format!("the one before counts until {} UTC", time(at)),
        None => "the one before counts no more".to_owned(),
    };
    host.progress(format!("Key {} has a new secret, shown only this once; {before}.", cell(id))).await?;
    Ok(Exit::Done)
}

pub(super) async fn revoke(host: &Host, id: &str) -> Outcome {
    let answer = host.call(Request::Revoke(Revocation::of_key(id))).await?;
    let Answer::Revoked(is_revoked) = answer else { return Err(mismatch(&answer)) };
    if !is_revoked {
        // Whether it is gone or was revoked before.
        get(host, id).await?;
    }
    if host.look.json {
        host.out(answer.json(true)).await?;
    } else if is_revoked {
        host.out(format!("Key {} is revoked.", cell(id))).await?;
    } else {
        host.out(format!("Key {} was revoked before.", cell(id))).await?;
    }
    Ok(Exit::Done)
}

pub(super) async fn revoke_all(host: &Host, all: RevokeAll) -> Outcome {
    let (filter, whose) = match (all.account, all.parent, all.delegated_by) {
        (Some(account), ..) => {
            let whose = format!("Account {}", cell(&account));
            (RevokeFilter::Account(account.into()), whose)
        }
        (_, Some(parent), _) => {
            let whose = format!("Below key {}", cell(&parent));
            (RevokeFilter::Parent(parent.into()), whose)
        }
        (.., Some(human)) => {
            let whose = format!("Authorised by {}", cell(&human));
            (RevokeFilter::DelegatedBy(human), whose)
        }
        _ => return Err(Stop::Usage("give one of --account, --parent and --delegated-by".to_owned())),
    };
    let live = count(host, &filter).await?;
    host.note(format!("{whose}: {live} {} not revoked yet.", if live == 1 { "key is" } else { "keys are" }))
        .await?;
    if live == 0 && host.look.json {
        host.out("0").await?;
    }
    if live == 0 {
        return Ok(Exit::Done);
    }
    host.confirm(all.confirmed.yes, &format!("Revoke {} for good?", if live == 1 { "it" } else { "them" }))
        .await?;
    let answer = host.call(Request::RevokeAll(filter)).await?;
    let Answer::RevokedAll(revoked) = answer else { return Err(mismatch(&answer)) };
    if host.look.json {
        host.out(answer.json(true)).await?;
    } else {
        host.out(format!("{revoked} {} revoked.", if revoked == 1 { "key is" } else { "keys are" })).await?;
    }
    Ok(Exit::Done)
}

/// How many keys of a filter are not revoked.
async fn count(host: &Host, filter: &RevokeFilter) -> Outcome<usize> {
    let all = usize::MAX;
    let is_live = |key: &&KeyRecord| key.revoked_at.is_none();
    let keys = match filter {
        RevokeFilter::Account(account) => {
            read(host, KeyFilter::new().account_id(account.clone()), all).await?
        }
        RevokeFilter::DelegatedBy(human) => read(host, KeyFilter::new().delegated_by(human), all).await?,
        RevokeFilter::Parent(parent) => {
            get(host, &parent.to_string()).await?;
            let mut keys: Vec<KeyRecord> = Vec::new();
            let mut seen = std::collections::HashSet::<KeyId>::new();
            let mut parents = vec![parent.clone()];
            while let Some(parent) = parents.pop() {
                for child in read(host, KeyFilter::new().parent(parent), all).await? {
                    if seen.insert(child.grant.id.clone()) {
                        parents.push(child.grant.id.clone());
                        keys.push(child);
                    }
                }
            }
            keys
        }
    };
    // The state that `list` filters by would leave out keys that are disabled or expired: they are revoked, too.
    Ok(keys.iter().filter(is_live).count())
}
