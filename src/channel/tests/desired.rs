//! From a manifest and Secrets to what is wanted, and to what the relay is told.

use super::*;

#[test]
fn a_manifest_that_cannot_be_used_says_why_with_its_field() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 4] = [
        (
            |value| {
                value["spec"]["receiver"] = json!({"bot": {"url": "https://bot.example",
                    "credentialsSecretRef": {"name": "rasa"}, "fallback": {"group": {"name": "Поддержка"}}}});
            },
            "spec.receiver.bot.credentialsSecretRef: the Secret rasa is not there",
        ),
        (
            |value| value["metadata"]["annotations"] = json!({"maxchannel.dev/accept-bot": "the other"}),
            "metadata.annotations[maxchannel.dev/accept-bot]: \"the other\" is not the user id of a bot",
        ),
        (
            |value| value["spec"]["creatio"]["url"] = json!("https://:80"),
            "spec.creatio.url: \"https://:80\" is not an address; write it like https://acme.example",
        ),
        (
            |value| value["spec"]["intake"] = json!({"webhook": {"url": "http://max.acme.ru"}}),
            "spec.intake.webhook: MAX calls https:// addresses only, http://max.acme.ru/ is none; serve it with a certificate on \
             port 443",
        ),
    ];
    for (change, expected) in cases {
        let mut value = serde_json::to_value(manifest(|_| {})).unwrap();
        change(&mut value);
        let manifest: MaxChannel = serde_json::from_value(value).unwrap();
        let own = Installation { public_url: None, ..installation() };
        assert_eq!(validate(&manifest, &secrets(), &own).unwrap_err(), [expected]);
    }
}

#[test]
fn a_missing_credential_names_secret_and_key_and_fails_only_what_needs_it() {
    let mut without = secrets();
    without.get_mut("bot").unwrap().insert("token".to_owned(), SecretString::from("canary token"));
    without.get_mut("mango").unwrap().remove("apiSalt");
    without.remove("crm");
    let desired = validate(&manifest(|_| {}), &without, &installation()).unwrap();
    assert_eq!(
        desired.token.unwrap_err().sentence(),
        "the key token of the Secret bot cannot be used: it has a space or a line break inside: copy it once more, in one piece"
    );
    assert_eq!(desired.mango.unwrap_err().sentence(), "the Secret mango has no key apiSalt");
    assert_eq!(desired.crm_access.unwrap_err().sentence(), "the Secret crm is not there");
}

#[test]
fn the_public_address_of_the_installation_beats_the_manifests_and_without_any_max_is_polled() {
    use crate::channel::validate::DesiredIntake;
    let host = |value: &mut Value| value["spec"]["intake"] = json!({"webhook": {"host": "own.acme.ru"}});
    let private = Installation { public_url: None, ..installation() };
    let base = |text: &str| DesiredIntake::Webhook { base: Url::parse(text).unwrap() };
    let of = |manifest: MaxChannel, installation: &Installation| {
        validate(&manifest, &secrets(), installation).unwrap().intake
    };
    assert_eq!(of(manifest(host), &installation()), base("https://max.acme.ru"));
    assert_eq!(of(manifest(host), &private), base("https://own.acme.ru"));
    assert_eq!(of(manifest(|_| {}), &installation()), base("https://max.acme.ru"));
    assert_eq!(of(manifest(|_| {}), &private), DesiredIntake::LongPoll);
    let poll = |value: &mut Value| value["spec"]["intake"] = json!({"longPoll": {}});
    assert_eq!(of(manifest(poll), &installation()), DesiredIntake::LongPoll);
    // What MANGO OFFICE calls names no host: the installation's is the one to be entered there.
    let by_mango = |value: &mut Value| value["spec"]["intake"] = json!({"mangoDialogs": {}});
    let cluster = Installation { mango_base: Url::parse("https://all.acme.ru").ok(), ..private };
    let base = |change: fn(&mut Value)| validate(&manifest(change), &secrets(), &cluster).unwrap().public_base;
    assert_eq!(base(by_mango), cluster.mango_base);
    assert_eq!((base(poll), base(|_| {})), (None, None), "nothing else is subscribed there");
}

#[test]
fn a_revision_changes_with_every_setting_and_credential_and_tells_none() {
    use crate::channel::relay_config::{Access, relay_config};
    let token = SecretString::from(TOKEN);
    let revision = |desired: &Desired, token: &SecretString, retired: &[SecretString], ours| {
        let config = relay_config(desired, &installation(), BOT, token, retired, Access { ours }, Vec::new());
        assert!(!serde_json::to_string(&config.channel).unwrap().contains("canary"));
        config.channel.revision
    };
    let base = desired(|_| {});
    let mut other_notify = secrets();
    other_notify.get_mut("crm").unwrap().insert("notifySecret".to_owned(), SecretString::from("canary-other"));
    let renotified = validate(&manifest(|_| {}), &other_notify, &installation()).unwrap();
    let text = desired(|value| value["spec"]["autoReplies"][0]["text"] = json!("Другой текст"));
    let next = SecretString::from("canary-token-0002");
    let all = [
        revision(&base, &token, &[], true),
        revision(&base, &next, &[], true),
        revision(&base, &next, std::slice::from_ref(&token), true),
        revision(&base, &token, &[], false),
        revision(&renotified, &token, &[], true),
        revision(&text, &token, &[], true),
    ];
    let different: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "{all:?}");
    assert_eq!(all[0], revision(&base, &token, &[], true), "the same gives the same");
}
