//! Rows of requests for more budget, and of their decisions.

use super::ledger::read_object;
use super::{Field, fields, read_key_id};
use crate::budget::increase::{Increase, IncreaseFilter};
use crate::budget::increase_outcome::{
    IncreaseOutcome, IncreaseRecorded, IncreaseRefusal, IncreaseRefusalReason,
};
use crate::error::Error;
use crate::table::shape::TableShape;

/// What is asked for with a filter; `None` if nothing in the columns can match.
pub(crate) fn filter_params(filter: &IncreaseFilter, shape: &TableShape) -> Option<Vec<Option<String>>> {
    let [key, within] = [&filter.key_id, &filter.within].map(|id| id.as_ref().map(ToString::to_string));
    let account = filter.account_id.as_ref().map(ToString::to_string);
    let is_id = |id: &Option<String>| id.as_ref().is_none_or(|id| shape.fits_id(id));
    let is_account = account.as_ref().is_none_or(|account| shape.fits_account(account));
    let fits = is_id(&key) && is_id(&within) && is_account;
    let state = filter.state.map(|state| state.as_str().to_owned());
    let before = filter.before.map(|id| id.to_string());
    fits.then(|| vec![key, account, within, state, before, Some(filter.most().to_string())])
}

/// The row of `request_increase.sql`: no row means that there is no such key. `None`: it is to be sent again.
pub(crate) fn read_request(rows: &[String]) -> Result<Option<IncreaseOutcome>, Error> {
    let Some(row) = rows.first() else {
        return Ok(Some(Err(IncreaseRefusal::new(IncreaseRefusalReason::InvalidKey))));
    };
    let [status, request] = fields(row, "a request's row")?;
    match status.as_deref() {
        Some("again") => Ok(None),
        Some("requested") => recorded(&request, false).map(Some),
        status => outcome(status, &request).map(Some),
    }
}

/// The row of `decide_increase.sql`. `None`: somebody else has locked a row that it needs.
pub(crate) fn read_decision(row: &str, shape: &TableShape) -> Result<Option<IncreaseOutcome>, Error> {
    let [status, request, limit_key_id] = fields(row, "a decision's row")?;
    match status.as_deref() {
        Some("busy") => Ok(None),
        Some("approved" | "denied") => recorded(&request, false).map(Some),
        status => {
            let limit_key_id = limit_key_id.map(|id| read_key_id(&id, shape)).transpose()?;
            let outcome = outcome(status, &request)?;
            let of_limit = |refusal: IncreaseRefusal| match refusal.reason {
                IncreaseRefusalReason::ExceedsAncestor => IncreaseRefusal { limit_key_id, ..refusal },
                _ => refusal,
            };
            Ok(Some(outcome.map_err(of_limit)))
        }
    }
}

fn recorded(request: &Field<'_>, replayed: bool) -> Result<IncreaseOutcome, Error> {
    let request = request.as_deref().ok_or_else(|| Error::unexpected("a request that is none"))?;
    Ok(Ok(IncreaseRecorded { request: read_object(request)?, replayed }))
}

fn outcome(status: Option<&str>, request: &Field<'_>) -> Result<IncreaseOutcome, Error> {
    if status == Some("replayed") {
        return recorded(request, true);
    }
    let all = IncreaseRefusalReason::ALL;
    let reason = all.iter().copied().find(|reason| Some(reason.as_str()) == status);
    let reason = reason.ok_or_else(|| Error::unexpected(format_args!("the status {status:?}")))?;
    let request: Option<Increase> = request.as_deref().map(read_object).transpose()?;
    Ok(Err(IncreaseRefusal { request, ..IncreaseRefusal::new(reason) }))
}
