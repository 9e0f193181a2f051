//! The calls that are measured, each on keys that others of its kind did not have.

use agentkey::engine::Credential;
use agentkey::{AgentKey, KeyFilter, KeyId, KeyState, KeyUpdate, RevokeFilter, Rotate};
use serde_json::json;

use crate::Result;
use crate::table::{CHILDREN, HELD, OF_ACCOUNT, accounts, platform};

#[derive(Debug, Clone, Copy)]
pub enum Call {
    Get,
    UpdateName,
    UpdateBudget,
    UpdatePeriod,
    Disable,
    Rotate,
    RotateBySecret,
    List,
    ListAccount,
    ListParent,
    ListLargeParent,
    ListHuman,
    ListLive,
    ListExpired,
    ListRevoked,
    ListDisabled,
    ListScope,
    ListRareScope,
    ListRareScopeOfAll,
    ListMetadata,
    ListShare,
    ListHighShare,
    ListShareOfAccount,
    ExplainFlat,
    ExplainTeam,
    ExplainGrandchild,
    ExplainLarge,
    ExplainChildOfLarge,
    RevokeAccount,
    RevokeHuman,
}

impl Call {
    pub const ALL: &[Call] = &[
        Call::Get,
        Call::UpdateName,
        Call::UpdateBudget,
        Call::UpdatePeriod,
        Call::Disable,
        Call::Rotate,
        Call::RotateBySecret,
        Call::List,
        Call::ListAccount,
        Call::ListParent,
        Call::ListLargeParent,
        Call::ListHuman,
        Call::ListLive,
        Call::ListExpired,
        Call::ListRevoked,
        Call::ListDisabled,
        Call::ListScope,
        Call::ListRareScope,
        Call::ListRareScopeOfAll,
        Call::ListMetadata,
        Call::ListShare,
        Call::ListHighShare,
        Call::ListShareOfAccount,
        Call::ExplainFlat,
        Call::ExplainTeam,
        Call::ExplainGrandchild,
        Call::ExplainLarge,
        Call::ExplainChildOfLarge,
        Call::RevokeAccount,
        Call::RevokeHuman,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Call::Get => "get",
            Call::UpdateName => "update: the name",
            Call::UpdateBudget => "update: the budget",
            Call::UpdatePeriod => "update: the period",
            Call::Disable => "disable",
            Call::Rotate => "rotate",
            Call::RotateBySecret => "rotate, by the secret",
            Call::List => "list: any 100 keys",
            Call::ListAccount => "list: an account of 100 keys",
            Call::ListParent => "list: 20 children of a key",
            Call::ListLargeParent => "list: 100 of 100,000 children of a key",
            Call::ListHuman => "list: 100 keys of a human",
            Call::ListLive => "list: live keys",
            Call::ListExpired => "list: expired keys, 1 in 10 is",
            Call::ListRevoked => "list: revoked keys, 1 in 200 is",
            Call::ListDisabled => "list: disabled keys, 1 in 10,000 is",
            Call::ListScope => "list: a scope that 1 key in 20 has",
            Call::ListRareScope => "list: a scope that 1 key in 100,000 has, of an account",
            Call::ListRareScopeOfAll => "list: a scope that 1 key in 100,000 has",
            Call::ListMetadata => "list: metadata that 50 keys have",
            Call::ListShare => "list: over half of the budget, 1 in 2 is",
            Call::ListHighShare => "list: over 0.99 of the budget, 1 in 100 is",
            Call::ListShareOfAccount => "list: over 0.99 of the budget, of an account",
            Call::ExplainFlat => "explain: a key of which nothing is held",
            Call::ExplainTeam => "explain: a team with 40 keys, of which something is held",
            Call::ExplainGrandchild => "explain: a grandchild in such a team",
            Call::ExplainLarge => "explain: a key with 100,000 children, of which something is held",
            Call::ExplainChildOfLarge => "explain: a child of it",
            Call::RevokeAccount => "revokeAll: an account of 100 keys",
            Call::RevokeHuman => "revokeAll: 100 keys of a human",
        }
    }

    /// How many of a kind there are at most.
    pub fn most(self) -> Option<usize> {
        match self {
            // It reads the whole table.
            Call::ListRareScopeOfAll => Some(1),
            _ => None,
        }
    }

    pub async fn make(self, ak: &AgentKey, keys: i64, place: i64) -> Result<()> {
        let accounts = accounts(keys);
        // Spread over the table, each once; of each kind others.
        let account = (place * 7_919 + self as i64 * 104_729) % accounts;
        let key = account * OF_ACCOUNT + 60 + place % 30;
        let list = async |filter: KeyFilter, least: usize| match ak.list(filter).await?.len() {
            found if found >= least => Ok(()),
            found => Err(format!("{found} keys in place of {least}").into()),
        };
        let is = |is_so: bool| if is_so { Ok(()) } else { Err("a wrong answer".into()) };
        let update = async |changes: KeyUpdate| is(ak.update(key, changes).await?.is_some());
        let held = account / HELD * HELD * OF_ACCOUNT;
        match self {
            Call::Get => is(ak.get(key).await?.is_some()),
            Call::UpdateName => update(KeyUpdate::new().name("another")).await,
            Call::UpdateBudget => update(KeyUpdate::new().budget_cents(6_000)).await,
            Call::UpdatePeriod => update(KeyUpdate::new().budget_period(agentkey::Period::Week)).await,
            Call::Disable => is(ak.disable(key).await?.is_some()),
            Call::Rotate => is(ak.rotate(KeyId::from(key), Rotate::new()).await?.is_ok()),
            Call::RotateBySecret => {
                is(ak.rotate(Credential::of_key(&format!("ak_{key}")), Rotate::new()).await?.is_ok())
            }
            Call::List => list(KeyFilter::new().after(key), 100).await,
            Call::ListAccount => list(KeyFilter::new().account_id(format!("acct_{account}")), 100).await,
            Call::ListParent => list(KeyFilter::new().parent(account * OF_ACCOUNT + 1), 20).await,
            Call::ListLargeParent => {
                let after = platform(keys) + place * 101 % (CHILDREN - 200);
                list(KeyFilter::new().parent(platform(keys)).after(after), 100).await
            }
            Call::ListHuman => list(KeyFilter::new().delegated_by(format!("human_{}", account)), 100).await,
            Call::ListLive => list(KeyFilter::new().state(KeyState::Live).after(key), 100).await,
            Call::ListExpired => list(KeyFilter::new().state(KeyState::Expired).after(key), 100).await,
            Call::ListRevoked => list(KeyFilter::new().state(KeyState::Revoked).after(key / 2), 100).await,
            Call::ListDisabled => list(KeyFilter::new().state(KeyState::Disabled).after(key / 2), 10).await,
            Call::ListScope => list(KeyFilter::new().scope("search").after(key / 2), 100).await,
            Call::ListRareScope => {
                list(
                    KeyFilter::new().scope("audit").account_id(format!("acct_{}", account / 1_000 * 1_000)),
                    1,
                )
                .await
            }
            Call::ListRareScopeOfAll => list(KeyFilter::new().scope("audit"), 1).await,
            Call::ListMetadata => {
                let team = json!({ "team": account }).as_object().cloned().unwrap_or_default();
                list(KeyFilter::new().metadata(team), 49).await
            }
            Call::ListShare => list(KeyFilter::new().over_share(0.5).after(key / 2), 100).await,
            Call::ListHighShare => list(KeyFilter::new().over_share(0.99).after(key / 2), 100).await,
            Call::ListShareOfAccount => {
                list(KeyFilter::new().over_share(0.99).account_id(format!("acct_{account}")), 0).await
            }
            Call::ExplainFlat => is(!ak.explain(&KeyId::from(key)).await?.limits.is_empty()),
            Call::ExplainTeam => is(ak.explain(&KeyId::from(held + 1)).await?.limits[0].holds.count == 4),
            Call::ExplainGrandchild => is(ak.explain(&KeyId::from(held + 30)).await?.limits.len() == 3),
            Call::ExplainLarge => {
                is(ak.explain(&KeyId::from(platform(keys))).await?.limits[0].holds.count >= 100)
            }
            Call::ExplainChildOfLarge => {
                is(ak.explain(&KeyId::from(platform(keys) + 1 + place)).await?.limits.len() == 2)
            }
            Call::RevokeAccount => {
                is(ak.revoke_all(RevokeFilter::Account(format!("acct_{account}").into())).await? > 90)
            }
            Call::RevokeHuman => {
                is(ak.revoke_all(RevokeFilter::DelegatedBy(format!("human_{account}"))).await? > 80)
            }
        }
    }
}
