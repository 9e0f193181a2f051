//! The rules of keys on a real Postgres, where a case file cannot say it.

mod support;

use std::time::Duration;

use agentkey::engine::AccountId;
use agentkey::{ChargeRefusal, CreateKey, DenialReason, KeyId, Period};
use support::{TestDatabase, original_table};

#[tokio::test]
async fn a_key_lives_from_creation_to_revocation() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    let spec = CreateKey::new("acct")
        .scopes(["read"])
        .budget_cents(50)
        .budget_period(Period::Day)
        .expires_in(Duration::from_secs(3600));
    let created = ak.create(spec.delegated_by("alice@example.com")).await.unwrap();
    let key = created.key.expose();

    let grant = ak.validate(key).await.unwrap().unwrap();
    assert_eq!(grant.id, created.id);
    assert_eq!(grant.account_id, Some(AccountId::Text("acct".to_owned())));
    assert_eq!((grant.budget_used_cents, grant.budget_remaining_cents), (0, Some(50)));
    assert_eq!(grant.delegated_by.as_deref(), Some("alice@example.com"));
    assert!(grant.has_scope("read") && !grant.has_scope("write"));
    assert_eq!(grant.expires_at, created.expires_at);
    assert_eq!((grant.expires_at.unwrap() - grant.budget_reset_at.unwrap()).num_hours(), -23);

    let charged = ak.track_usage(key, 20).await.unwrap().unwrap();
    assert_eq!((charged.budget_used_cents(), charged.budget_remaining_cents()), (Some(20), Some(30)));
    assert_eq!(ak.track_usage(key, 31).await.unwrap(), Err(ChargeRefusal::BudgetExceeded));
    let charged = ak.track_usage(key, 30).await.unwrap().unwrap();
    assert_eq!((charged.budget_used_cents(), charged.budget_remaining_cents()), (Some(50), Some(0)));
    assert_eq!(ak.validate(key).await.unwrap().unwrap_err().reason, DenialReason::BudgetExceeded);

    assert!(ak.revoke(created.id.clone()).await.unwrap());
    assert!(!ak.revoke(created.id).await.unwrap());
    assert_eq!(ak.validate(key).await.unwrap().unwrap_err().reason, DenialReason::Revoked);
    assert_eq!(ak.track_usage(key, 1).await.unwrap(), Err(ChargeRefusal::InvalidKey));
    db.drop().await;
}

#[tokio::test]
async fn every_id_and_account_type_works_without_a_migration() {
    for (id, account, account_id) in [
        ("SERIAL", "TEXT", AccountId::Text("acct".to_owned())),
        ("BIGSERIAL", "INTEGER", AccountId::Integer(42)),
        ("UUID DEFAULT gen_random_uuid()", "BIGINT", AccountId::Text("42".to_owned())),
        ("SERIAL", "UUID", AccountId::Text("0b9c2f0e-3d2b-4a53-9f0e-2f6a1c3d4e5f".to_owned())),
        ("TEXT DEFAULT gen_random_uuid()::text", "VARCHAR(40)", AccountId::Text("acct".to_owned())),
    ] {
        let db = TestDatabase::create().await;
        db.run(&original_table(id, account)).await;
        let ak = agentkey::AgentKey::builder().pool(db.pool.clone()).unwrap();
        let spec = CreateKey::new(account_id.clone())
            .budget_cents(10)
            .budget_period(Period::Month)
            .scopes(["a", "b"]);
        let created = ak.create(spec.expires_in(Duration::from_secs(86_400))).await.unwrap();
        assert_eq!(matches!(created.id, KeyId::Integer(_)), id.ends_with("SERIAL"));
        let grant = ak.validate(created.key.expose()).await.unwrap().unwrap();
        assert_eq!((&grant.id, grant.account_id.as_ref()), (&created.id, Some(&account_id)));
        assert!(ak.track_usage(created.key.expose(), 7).await.unwrap().is_ok());
        // Two at once take the statement for batches.
        let (one, two) =
            tokio::join!(ak.track_usage(created.key.expose(), 2), ak.track_usage(created.key.expose(), 2));
        assert_eq!([one.unwrap(), two.unwrap()].iter().filter(|u| u.is_ok()).count(), 1);
        let (one, two) = tokio::join!(ak.validate(created.key.expose()), ak.validate(created.key.expose()));
        assert!(one.unwrap() == two.unwrap(), "alone and in a batch");
        ak.ensure_subject("42", CreateKey::new(account_id.clone())).await.unwrap();
        assert!(ak.validate_by_subject("42").await.unwrap().is_ok());
        assert!(!ak.revoke_of_account(created.id.clone(), None::<String>).await.unwrap());
        assert!(!ak.revoke_of_account(created.id.clone(), Some("7")).await.unwrap());
        assert!(ak.revoke_of_account(created.id, Some(account_id)).await.unwrap());
        ak.close().await;
        assert_eq!(db.number("SELECT count(*) FROM sdk_api_keys WHERE last_used_at IS NOT NULL").await, 2);
        db.drop().await;
    }
}
