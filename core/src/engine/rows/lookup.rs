//! What a look-up's row says of a key and its ancestors.

use std::borrow::Cow;

use super::ancestors::read_ancestors;
use super::scopes::parse_stored;
use super::time::{Moment, is_over};
use super::version::Version;
use super::{Field, fields, integer, is_true, place, read_key_id};
use crate::budget::limit::{Limit, LimitState};
use crate::budget::money::{Balance, MICROCENTS_PER_CENT};
use crate::error::Error;
use crate::id::{AccountId, KeyId};
use crate::key::grant::{Denial, DenialReason, Grant, Verdict};
use crate::table::shape::TableShape;

/// A row of `validate_one.sql`, `validate_many.sql` or `validate.sql`, in the order of `key_columns.sql`.
pub(crate) struct KeyRow<'r, 's> {
    fields: [Field<'r>; 22],
    shape: &'s TableShape,
}

/// What a row that stands for itself says.
#[expect(clippy::large_enum_variant, reason = "taken apart at once")]
pub(crate) enum Lookup<'r> {
    Decided(LookedUp<'r>),
    /// Only the general statement knows what the key needs: its ancestors, or when its next period ends.
    Undecided {
        place: usize,
        has_parent: bool,
    },
}

/// A key as it was looked up.
pub(crate) struct LookedUp<'r> {
    /// The place in the batch, from 0.
    pub(crate) place: usize,
    /// The id as the database wrote it.
    pub(crate) id: Cow<'r, str>,
    last_used_at: Option<Moment>,
    now: Moment,
    pub(crate) verdict: Verdict,
    /// The ids of the keys above it, nearest first.
    pub(crate) ancestors: Vec<KeyId>,
    /// What it may spend beside its budget.
    pub(crate) limits: Vec<LimitState>,
    /// Until it or an ancestor expires.
    pub(crate) seconds_left: Option<i64>,
}

impl LookedUp<'_> {
    pub(crate) fn last_used_at(&self) -> Option<Moment> {
        self.last_used_at
    }

    /// Whether its last use was noted longer ago than so many seconds.
    pub(crate) fn is_stale(&self, seconds: u32) -> bool {
        let since = self.now.minus_seconds(seconds);
        self.last_used_at.is_none_or(|at| at < since)
    }
}

impl<'r, 's> KeyRow<'r, 's> {
    pub(crate) fn read(row: &'r str, shape: &'s TableShape) -> Result<Self, Error> {
        Ok(KeyRow { fields: fields(row, "a key's row")?, shape })
    }

    /// A row with its version. Without either, if there is no such key: its place.
    pub(crate) fn read_versioned(
        row: &'r str,
        shape: &'s TableShape,
    ) -> Result<(Self, Option<Version>), Error> {
        let all: [Field<'r>; 24] = fields(row, "a key's row")?;
        let mut all = all.into_iter();
        let fields = std::array::from_fn(|_| all.next().flatten());
        let text = |field: Option<Field<'_>>| field.flatten().map(Cow::into_owned);
        let [xmin, ctid] = [text(all.next()), text(all.next())];
        let row = KeyRow { fields, shape };
        let version = match (xmin, ctid, text(Some(row.fields[9].clone()))) {
            (Some(xmin), Some(ctid), Some(used)) => Some(Version { xmin, ctid, used }),
            _ => None,
        };
        Ok((row, version))
    }

    /// A row that was read before, at another place and time.
    pub(crate) fn again(mut self, place: usize, now: &'r str) -> Self {
        self.fields[0] = Some(Cow::Owned((place + 1).to_string()));
        self.fields[16] = Some(Cow::Borrowed(now));
        self
    }

    /// The place of a key that is not there.
    pub(crate) fn nobodys_place(&self) -> Option<usize> {
        self.fields[1].is_none().then(|| place(&self.fields[0]).ok()).flatten()
    }

    /// The same with the states of its ancestors, which `spend.sql` answers beside it.
    pub(crate) fn with_ancestors(mut self, ancestors: Field<'r>) -> Self {
        self.fields[21] = ancestors;
        self
    }

    /// The row of a plain statement, which leaves ancestors and due resets to the general one.
    pub(crate) fn read_alone(self) -> Result<Lookup<'r>, Error> {
        let has_parent = is_true(&self.fields[19]);
        let reset_at = Moment::read(self.fields[13].as_deref(), "budget_reset_at")?;
        let now = Moment::read(self.fields[16].as_deref(), "the time")?;
        if has_parent || reset_at.is_some_and(|reset_at| now.is_none_or(|now| reset_at <= now)) {
            return Ok(Lookup::Undecided { place: place(&self.fields[0])?, has_parent });
        }
        self.decided().map(Lookup::Decided)
    }

    /// The row of the general statement.
    pub(crate) fn decided(self) -> Result<LookedUp<'r>, Error> {
        let KeyRow { fields, shape } = self;
        let [
            place_in_batch,
            id,
            account_id,
            name,
            user_id,
            scopes,
            delegated_by,
            period,
            budget,
            used,
            used_micro,
            reserved_cents,
            reserved_micro,
            reset_at,
            expires_at,
            last_used_at,
            now,
            revoked,
            disabled,
            _has_parent,
            next_reset,
            ancestors,
        ] = fields;
        let now = Moment::read(now.as_deref(), "the time")?.ok_or_else(|| Error::unexpected("no time"))?;
        let expires_at = Moment::read(expires_at.as_deref(), "expires_at")?;
        let owned = |field: Field<'_>| field.map(Cow::into_owned);
        let id = id.ok_or_else(|| Error::unexpected("a key without an id"))?;
        let budget_cents = integer(&budget, "budget_cents")?;
        // A period that begins now is unused.
        let period_used = next_reset.is_none().then_some((&used, &used_micro));
        let balance = balance(budget_cents, period_used, reserved(&reserved_cents, &reserved_micro, shape)?)?;
        let reset_at = Moment::read(next_reset.as_deref().or(reset_at.as_deref()), "budget_reset_at")?;
        let grant = Grant {
            id: read_key_id(&id, shape)?,
            account_id: account_id.map(|a| AccountId::read(&a, shape.account_is_integer())).transpose()?,
            user_id: owned(user_id),
            scopes: scopes.as_deref().map(parse_stored),
            budget_cents,
            budget_used_cents: balance.used_cents(),
            budget_used_microcents: balance.used_microcents,
            budget_reserved_cents: balance.reserved_cents(),
            budget_reserved_microcents: balance.reserved_microcents,
            budget_remaining_cents: balance.remaining_cents(),
            budget_period: owned(period),
            budget_reset_at: reset_at.and_then(Moment::reset),
            expires_at: expires_at.and_then(Moment::calendar),
            delegated_by: owned(delegated_by),
            name: owned(name).unwrap_or_else(|| "default".to_owned()),
            wildcards: shape.wildcards,
        };
        let own_reason = reason(&revoked, &disabled, is_over(expires_at, now), &balance);
        let mut denial = own_reason.map(|reason| (reason, limit(reason, &grant)));
        let mut seconds_left = expires_at.and_then(|at| at.seconds_after(now));
        let ancestors = match ancestors {
            Some(states) => read_ancestors(&states, &grant.id, now, shape)?,
            None => Vec::new(),
        };
        for ancestor in &ancestors {
            if let Some(reason) = ancestor.reason
                && denial.as_ref().is_none_or(|(known, _)| reason.rank() < known.rank())
            {
                denial = Some((reason, ancestor.limit.clone()));
            }
            seconds_left = seconds_left.into_iter().chain(ancestor.seconds_left).min();
        }
        let verdict = match denial {
            None => Ok(grant),
            Some((reason, limit)) => Err(Denial { reason, limit, key: Some(Box::new(grant)) }),
        };
        Ok(LookedUp {
            place: place(&place_in_batch)?,
            id,
            last_used_at: Moment::read(last_used_at.as_deref(), "last_used_at")?,
            now,
            verdict,
            ancestors: ancestors.iter().filter_map(|ancestor| ancestor.id.clone()).collect(),
            limits: ancestors.into_iter().take_while(|a| a.is_limit).filter_map(|a| a.state).collect(),
            seconds_left,
        })
    }
}

/// `used` is cents and micro-cents, nothing if a period begins; `reserved` is micro-cents.
pub(super) fn balance(
    budget_cents: Option<i64>,
    used: Option<(&Field<'_>, &Field<'_>)>,
    reserved: i64,
) -> Result<Balance, Error> {
    let used = match used {
        Some((cents, microcents)) => integer(cents, "budget_used_cents")?
            .unwrap_or(0)
            .saturating_mul(MICROCENTS_PER_CENT)
            .saturating_add(integer(microcents, "budget_used_microcents")?.unwrap_or(0)),
        None => 0,
    };
    Ok(Balance::new(budget_cents, used, reserved))
}

/// What `reserved.sql` says, without its costs: look-ups are planned each time where they are not prepared.
fn reserved(cents: &Field<'_>, microcents: &Field<'_>, shape: &TableShape) -> Result<i64, Error> {
    let cents = integer(cents, "budget_reserved_cents")?.unwrap_or(0).clamp(0, shape.max_cents());
    let microcents = integer(microcents, "budget_reserved_microcents")?.unwrap_or(0);
    Ok(cents * MICROCENTS_PER_CENT + microcents.clamp(0, MICROCENTS_PER_CENT - 1))
}

/// Why a row stops a key, in the order in which reasons are checked.
pub(super) fn reason(
    revoked: &Field<'_>,
    disabled: &Field<'_>,
    is_expired: bool,
    balance: &Balance,
) -> Option<DenialReason> {
    if is_true(revoked) {
        Some(DenialReason::Revoked)
    } else if is_true(disabled) {
        Some(DenialReason::Disabled)
    } else if is_expired {
        Some(DenialReason::Expired)
    } else if balance.budget_microcents.is_some_and(|cap| balance.used_microcents >= cap) {
        Some(DenialReason::BudgetExceeded)
    } else {
        None
    }
}

fn limit(reason: DenialReason, grant: &Grant) -> Option<Limit> {
    grant.budget_cents.filter(|_| reason == DenialReason::BudgetExceeded).map(|budget_cents| Limit {
        key_id: grant.id.clone(),
        budget_cents,
        used_cents: grant.budget_used_cents,
        reserved_cents: grant.budget_reserved_cents,
        resets_at: grant.budget_reset_at,
        period: None,
        when_exceeded: None,
        breaker: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::KeyId;
    use crate::table::name::TableName;

    fn shape() -> TableShape {
        let rows: Vec<String> = ["id", "account_id", "key_hash", "key_prefix"]
            .iter()
            .chain(crate::table::shape::LIMITING_COLUMNS)
            .map(|c| format!("({c},bigint,bigint,f)"))
            .collect();
        TableShape::read(&TableName::default(), &rows, false).unwrap()
    }

    fn verdict(row: &str) -> Result<Grant, Box<Denial>> {
        KeyRow::read(row, &shape()).and_then(KeyRow::decided).unwrap().verdict.map_err(Box::new)
    }

    #[test]
    fn a_bare_row_is_an_unlimited_grant() {
        let grant = verdict("(1,7,,,,,,,,,,,,,,,1764000000,f,f,f,,)").unwrap();
        assert_eq!(grant.id, KeyId::Integer(7));
        assert_eq!((grant.account_id, grant.scopes, grant.budget_remaining_cents), (None, None, None));
        assert_eq!(grant.name, "default");
    }

    #[test]
    fn reasons_are_checked_in_order() {
        let row = |revoked, disabled, expired, used| {
            format!("(1,7,42,,,,,,100,{used},0,0,0,,{expired},,1764000000,{revoked},{disabled},f,,)")
        };
        let reason = |row: String| verdict(&row).map(|_| ()).map_err(|d| d.reason);
        assert_eq!(reason(row("t", "t", "1764000000", 100)), Err(DenialReason::Revoked));
        assert_eq!(reason(row("f", "t", "1764000000", 100)), Err(DenialReason::Disabled));
        assert_eq!(reason(row("f", "f", "1764000000", 100)), Err(DenialReason::Expired));
        assert_eq!(reason(row("f", "f", "1764000000.000001", 100)), Err(DenialReason::BudgetExceeded));
        assert_eq!(reason(row("f", "f", "", 99)), Ok(()));
        assert_eq!(reason(row("f", "f", "-Infinity", 0)), Err(DenialReason::Expired));
        assert_eq!(reason(row("f", "f", "Infinity", 0)), Ok(()));
    }

    #[test]
    fn an_exceeded_budget_says_which_and_until_when() {
        let denial =
            verdict("(1,7,42,,,,,day,100,150,0,3,0,1764000000.5,,,1764000000.499999,f,f,f,,)").unwrap_err();
        let limit = denial.limit.unwrap();
        assert_eq!((limit.budget_cents, limit.used_cents, limit.reserved_cents), (100, 150, 3));
        assert_eq!(limit.resets_at.unwrap().to_rfc3339(), "2025-11-24T16:00:00.500+00:00");
        assert_eq!(denial.key.unwrap().budget_remaining_cents, Some(0));
    }

    #[test]
    fn bigint_accounts_are_text_and_a_cap_of_nothing_is_exceeded() {
        let denial = verdict("(1,7,42,,,,,,0,0,0,0,0,,,,1764000000,f,f,f,,)").unwrap_err();
        assert_eq!(denial.key.unwrap().account_id, Some(AccountId::Text("42".to_owned())));
    }

    #[test]
    fn what_a_plain_row_cannot_tell_is_left_to_the_general_statement() {
        let undecided = |reset_at, has_parent| {
            let row = format!("(4,7,,,,,,day,100,5,0,0,0,{reset_at},,,1764000000,f,f,{has_parent},,)");
            match KeyRow::read(&row, &shape()).unwrap().read_alone().unwrap() {
                Lookup::Undecided { place, has_parent } => Some((place, has_parent)),
                Lookup::Decided(_) => None,
            }
        };
        assert_eq!(undecided("1764000000", "f"), Some((3, false)));
        assert_eq!(undecided("-Infinity", "f"), Some((3, false)));
        assert_eq!(undecided("", "t"), Some((3, true)));
        assert_eq!(undecided("1764000000.000001", "f"), None);
        assert_eq!(undecided("Infinity", "f"), None);
        assert_eq!(undecided("", "f"), None);
    }

    #[test]
    fn a_period_that_begins_is_unused_and_ends_with_the_next_reset() {
        let grant =
            verdict("(1,7,,,,,,day,100,100,9,2,999999,1763900000,,,1764000000,f,f,f,1764080000,)").unwrap();
        assert_eq!((grant.budget_used_cents, grant.budget_remaining_cents), (0, Some(97)));
        assert_eq!(grant.budget_reset_at.unwrap().timestamp(), 1_764_080_000);
    }

    #[test]
    fn an_old_last_use_is_stale() {
        let is_stale = |last_used_at| {
            let row = format!("(1,7,,,,,,,,,,,,,,{last_used_at},1764000060,f,f,f,,)");
            KeyRow::read(&row, &shape()).and_then(KeyRow::decided).unwrap().is_stale(60)
        };
        assert!(is_stale("") && is_stale("1763999999.999999") && is_stale("-Infinity"));
        assert!(!is_stale("1764000000") && !is_stale("Infinity"));
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for bad in [
            "",
            "(1)",
            "x",
            "(1,,,,,,,,,,,,,,,,1764000000,f,f,f,,)",
            "(0,7,,,,,,,,,,,,,,,1764000000,f,f,f,,)",
            "(1,x,,,,,,,,,,,,,,,1764000000,f,f,f,,)",
            "(1,7,,,,,,,1e3,,,,,,,,1764000000,f,f,f,,)",
            "(1,7,,,,,,,,,,,,,,,,f,f,f,,)",
        ] {
            assert!(KeyRow::read(bad, &shape()).and_then(KeyRow::decided).is_err(), "{bad}");
        }
    }
}
