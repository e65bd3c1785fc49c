//! From what was seen to the status.

use super::*;
use crate::contract::{MangoFacts, Trouble as OfRelay};

fn facts() -> Facts {
    let well = SideFacts { ok: true, code: None, since: NOW };
    Facts {
        revision: "r1".to_owned(),
        version: "0.1.0".to_owned(),
        max: well.clone(),
        crm: well.clone(),
        bot: well,
        oldest_seconds: 0,
        dead_letters: 0,
        undelivered: crate::contract::Undelivered::default(),
        open_dialogs: 0,
        last_update_at: None,
        store_writable: true,
        subscribed_at: None,
        auto_close: Vec::new(),
        mango: None,
        crm_share: None,
        receipt: None,
    }
}

fn running(change: impl FnOnce(&mut Facts)) -> RelayState {
    let mut facts = facts();
    change(&mut facts);
    RelayState::Running { facts: Box::new(facts), open: true, wanted: "r1".to_owned() }
}

/// A relay that answers, and whose store is closed.
fn without_store(trouble: OfRelay) -> RelayState {
    RelayState::Running { facts: Box::new(Facts::without_store("r1", trouble, NOW)), open: true, wanted: "r1".into() }
}

/// A status out of what is given, everything else being well.
struct Case {
    desired: Desired,
    seen: Observation,
    problems: Vec<String>,
    conflict: Option<Conflict>,
    unexpected_bot: Option<i64>,
    intake_failure: Option<Failure>,
    crm_failure: Option<Failure>,
    relay: RelayState,
    unapplied: Option<Vec<Unapplied>>,
    held: Option<Held>,
    deletion: Option<&'static str>,
    language: Language,
    now: i64,
}

impl Case {
    fn new() -> Self {
        Self::of(desired(|_| {}))
    }

    fn of(desired: Desired) -> Self {
        let seen = fresh(&desired);
        let seen = applied(seen.clone(), &plan::plan(&desired, &seen, Some(&bot())));
        Self {
            desired,
            seen,
            problems: Vec::new(),
            conflict: None,
            unexpected_bot: None,
            intake_failure: None,
            crm_failure: None,
            relay: running(|_| {}),
            unapplied: Some(Vec::new()),
            held: None,
            deletion: None,
            language: Language::English,
            now: NOW,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::new();
        change(&mut case);
        case
    }

    fn without(name: &str, key: Option<&str>) -> Self {
        let mut secrets = secrets();
        match key {
            Some(key) => drop(secrets.get_mut(name).unwrap().insert(key.to_owned(), SecretString::from("a b"))),
            None => drop(secrets.remove(name)),
        }
        Self::of(validate(&manifest(|_| {}), &secrets, &installation()).unwrap())
    }

    fn status(&self) -> MaxChannelStatus {
        report(&self.view(&bot()), &MaxChannelStatus::default())
    }

    fn view<'a>(&'a self, bot: &'a KnownBot) -> View<'a> {
        View {
            adopted: false,
            deletion: self.deletion,
            desired: Some(&self.desired),
            looking: &[],
            problems: &self.problems,
            observation: &self.seen,
            conflict: self.conflict.as_ref(),
            bot: Some(bot),
            unexpected_bot: self.unexpected_bot,
            intake_failure: self.intake_failure.as_ref(),
            crm_failure: self.crm_failure.as_ref(),
            relay: &self.relay,
            unapplied: self.unapplied.as_deref(),
            held: self.held,
            generation: 3,
            reconcile_at: None,
            now: self.now,
            language: self.language,
        }
    }

    fn shown(&self, kind: &str) -> (String, String) {
        let status = self.status();
        let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (found.status.clone(), found.reason.clone())
    }
}

#[test]
fn a_status_in_whole() {
    insta::assert_json_snapshot!("ready", Case::new().status());
    let mut away = Case::with(|case| {
        let basis = case.seen.crm.basis.clone();
        case.seen.crm.take(&basis, NOW, Err(outage(Reason::CrmUnreachable)));
        case.seen.subscriptions.seen = Some(vec![subscription("https://stranger.example/hook")]);
        case.problems = vec!["support.yaml:9: spec.closeMessage.text: too long".to_owned()];
    });
    insta::assert_json_snapshot!("troubled", away.status());
    away.language = Language::Russian;
    insta::assert_json_snapshot!("troubled_in_russian", away.status());
}

#[test]
fn every_reason_can_be_reached() {
    let holder = ChannelRef::new("crm", "older");
    let refused = |reason| Failure { reason, detail: "said so".to_owned(), trouble: Trouble::Refused };
    let bot_failed = |reason| {
        Case::with(|case| {
            let basis = case.seen.bot.basis.clone();
            case.seen.bot.take(&basis, NOW, Err(refused(reason)));
        })
    };
    let mango_failed = |reason| {
        Case::with(|case| {
            let basis = case.seen.mango.basis.clone();
            case.seen.mango.take(&basis, NOW, Err(refused(reason)));
        })
    };
    let crm_failed = |reason| {
        Case::with(|case| {
            let basis = case.seen.crm.basis.clone();
            case.seen.crm.take(&basis, NOW, Err(refused(reason)));
        })
    };
    let manifest_of = |change: fn(&mut Value)| Case::of(desired(change));
    let held = |reason| Case::with(|case| case.held = Some(Held { reason, since: NOW - 60_000 }));
    let relay = |relay| Case::with(|case| case.relay = relay);
    let unapplied = |reason, is_harmless| {
        Case::with(|case| case.unapplied = Some(vec![Unapplied { reason, detail: "said so".to_owned(), is_harmless }]))
    };
    let failed = |reason| RelayState::Failed { reason, detail: String::new() };
    let receiver = |change: fn(&mut Value)| manifest_of(change);
    let off_hours_bot: fn(&mut Value) = |value| {
        value["spec"]["workingHours"] = json!({"timeZone": "Europe/Moscow", "week": []});
        value["spec"]["offHours"] = json!({"bot": {"url": "https://bot.example"}});
    };
    let behind_bot: fn(&mut Value) = |value| {
        value["spec"]["receiver"] =
            json!({"bot": {"url": "https://bot.example", "fallback": {"employee": {"extension": "101"}}}});
    };
    let cases: Vec<(&str, Case, &str, Reason)> = vec![
        ("SpecValid", Case::with(|case| case.problems = vec!["x".to_owned()]), "False", Reason::InvalidSpec),
        ("ObjectsApplied", unapplied(Reason::QuotaExceeded, false), "False", Reason::QuotaExceeded),
        ("ObjectsApplied", unapplied(Reason::PolicyRefused, false), "False", Reason::PolicyRefused),
        ("ObjectsApplied", unapplied(Reason::RightsMissing, false), "False", Reason::RightsMissing),
        ("ObjectsApplied", unapplied(Reason::ObjectRefused, false), "False", Reason::ObjectRefused),
        ("ObjectsApplied", unapplied(Reason::ForeignObject, false), "False", Reason::ForeignObject),
        ("ObjectsApplied", unapplied(Reason::VolumeNotResized, false), "False", Reason::VolumeNotResized),
        ("ObjectsApplied", unapplied(Reason::RolloutWaiting, true), "True", Reason::RolloutWaiting),
        ("ObjectsApplied", unapplied(Reason::RolloutHalted, true), "True", Reason::RolloutHalted),
        ("ObjectsApplied", Case::with(|case| case.unapplied = None), "True", Reason::Applied),
        ("TokenAuthorized", Case::without("bot", None), "False", Reason::TokenNotFound),
        ("TokenAuthorized", Case::without("bot", Some("token")), "False", Reason::TokenInvalid),
        ("TokenAuthorized", bot_failed(Reason::TokenInvalid), "False", Reason::TokenInvalid),
        ("TokenAuthorized", bot_failed(Reason::BotUnderModeration), "False", Reason::BotUnderModeration),
        ("TokenAuthorized", bot_failed(Reason::LegalEntityAccessDenied), "False", Reason::LegalEntityAccessDenied),
        ("TokenAuthorized", bot_failed(Reason::AuthorizationFailed), "False", Reason::AuthorizationFailed),
        ("TokenAuthorized", bot_failed(Reason::MaxUnreachable), "False", Reason::MaxUnreachable),
        ("TokenAuthorized", Case::with(|case| case.unexpected_bot = Some(1)), "False", Reason::BotChanged),
        (
            "TokenAuthorized",
            Case::with(|case| case.conflict = Some(Conflict::Bot { holder: holder.clone() })),
            "False",
            Reason::BotInUse,
        ),
        (
            "BotCardInSync",
            manifest_of(|value| value["spec"]["botCard"] = json!({"name": "Другое имя"})),
            "False",
            Reason::CardDiffers,
        ),
        (
            "BotCardInSync",
            manifest_of(|value| value["spec"]["botCard"] = json!({"name": "Служба поддержки"})),
            "True",
            Reason::InSync,
        ),
        ("TokenAuthorized", by_mango(|facts| facts.refused_since = Some(NOW)), "False", Reason::AuthorizationFailed),
        ("AccountReady", Case::without("mango", None), "False", Reason::CredentialsNotFound),
        ("AccountReady", Case::without("mango", Some("apiKey")), "False", Reason::CredentialsInvalid),
        ("AccountReady", mango_failed(Reason::CredentialsInvalid), "False", Reason::CredentialsInvalid),
        ("AccountReady", mango_failed(Reason::Throttled), "False", Reason::Throttled),
        ("AccountReady", mango_failed(Reason::MangoUnreachable), "False", Reason::MangoUnreachable),
        (
            "AccountReady",
            Case::with(|case| case.conflict = Some(Conflict::Account { holder: holder.clone() })),
            "False",
            Reason::AccountInUse,
        ),
        ("ReceiverResolved", mango_failed(Reason::MangoUnreachable), "True", Reason::Resolved),
        (
            "ReceiverResolved",
            receiver(|value| drop(value["spec"].as_object_mut().unwrap().remove("receiver"))),
            "False",
            Reason::ReceiverNotSelected,
        ),
        (
            "ReceiverResolved",
            receiver(|value| value["spec"]["receiver"] = json!({"employee": {"extension": "999"}})),
            "False",
            Reason::EmployeeNotFound,
        ),
        (
            "ReceiverResolved",
            receiver(|value| value["spec"]["receiver"] = json!({"group": {"name": "Продажи"}})),
            "False",
            Reason::GroupNotFound,
        ),
        (
            "ReceiverResolved",
            Case::with(|case| case.seen.mango.seen.as_mut().unwrap().groups[0].members.clear()),
            "False",
            Reason::GroupEmpty,
        ),
        (
            "ReceiverResolved",
            receiver(|value| {
                value["spec"]["receiver"] = json!({"employee": {"extension": "101", "crmUser": "nobody"}});
            }),
            "False",
            Reason::AgentsMissingInCrm,
        ),
        (
            "ReceiverResolved",
            Case::with(|case| {
                Arc::make_mut(&mut case.seen.crm.seen.as_mut().unwrap().users).retain(|user| user.name != "boris");
            }),
            "True",
            Reason::AgentsMissingInCrm,
        ),
        (
            "ReceiverResolved",
            {
                let mut case = manifest_of(behind_bot);
                case.relay = running(|facts| facts.bot.ok = false);
                case
            },
            "True",
            Reason::FallbackServing,
        ),
        (
            "AutoRepliesActive",
            manifest_of(|value| value["spec"]["autoReplies"] = json!([])),
            "False",
            Reason::AutoRepliesNotConfigured,
        ),
        ("AutoRepliesActive", by_mango(|facts| facts.automatic_at = Some(NOW)), "True", Reason::RepliedTwice),
        ("ManualSteps", by_mango(|_| {}), "False", Reason::ManualActionRequired),
        ("AutoRepliesActive", manifest_of(off_hours_bot), "False", Reason::OffHoursBotActive),
        ("CrmConnected", Case::without("crm", None), "False", Reason::CredentialsNotFound),
        ("CrmConnected", Case::without("crm", Some("clientSecret")), "False", Reason::CredentialsInvalid),
        ("CrmConnected", crm_failed(Reason::CredentialsInvalid), "False", Reason::CredentialsInvalid),
        ("CrmConnected", crm_failed(Reason::PackageMissing), "False", Reason::PackageMissing),
        (
            "CrmConnected",
            Case::with(|case| "0.9.0".clone_into(&mut case.seen.crm.seen.as_mut().unwrap().package)),
            "True",
            Reason::PackageOutdated,
        ),
        ("CrmConnected", crm_failed(Reason::CrmUnreachable), "False", Reason::CrmUnreachable),
        (
            "CrmConnected",
            Case::with(|case| case.crm_failure = Some(refused(Reason::AccessDenied))),
            "False",
            Reason::AccessDenied,
        ),
        ("CrmConnected", Case::with(|case| rows(&mut case.seen).channel = None), "False", Reason::ChannelMissing),
        (
            "CrmConnected",
            Case::with(|case| rows(&mut case.seen).channel.as_mut().unwrap().is_active = false),
            "False",
            Reason::ChannelInactive,
        ),
        (
            "CrmConnected",
            Case::with(|case| rows(&mut case.seen).settings.as_mut().unwrap().owner = "else/where".to_owned()),
            "False",
            Reason::OwnedElsewhere,
        ),
        (
            "CrmConnected",
            Case::with(|case| rows(&mut case.seen).settings.as_mut().unwrap().owner = "staging/crm/support".to_owned()),
            "False",
            Reason::OwnedElsewhere,
        ),
        ("IntakeReady", Case::with(|case| case.seen.subscriptions.seen = Some(vec![])), "False", Reason::NotSubscribed),
        (
            "IntakeReady",
            Case::with(|case| {
                case.seen.subscriptions.seen = Some(vec![]);
                case.intake_failure = Some(refused(Reason::CertificateRejected));
            }),
            "False",
            Reason::CertificateRejected,
        ),
        (
            "IntakeReady",
            {
                let mut case = manifest_of(|value| value["spec"]["intake"] = json!({"longPoll": {}}));
                case.seen.subscriptions.seen = Some(vec![subscription("https://stranger.example/hook")]);
                case
            },
            "False",
            Reason::ForeignSubscription,
        ),
        (
            "IntakeReady",
            Case::with(|case| {
                case.seen.subscriptions.seen.as_mut().unwrap().push(subscription("https://stranger.example/hook"));
            }),
            "True",
            Reason::ForeignSubscription,
        ),
        (
            "IntakeReady",
            manifest_of(|value| value["spec"]["intake"] = json!({"mangoDialogs": {}})),
            "False",
            Reason::MangoNotConnected,
        ),
        ("RelayAvailable", relay(RelayState::Absent { detail: String::new() }), "False", Reason::RelayStarting),
        (
            "RelayAvailable",
            relay(RelayState::Running { facts: Box::new(facts()), open: true, wanted: "r2".to_owned() }),
            "False",
            Reason::ConfigPending,
        ),
        (
            "RelayAvailable",
            relay(RelayState::Running { facts: Box::new(facts()), open: false, wanted: facts().revision }),
            "False",
            Reason::RelayStarting,
        ),
        ("RelayAvailable", relay(running(|facts| facts.store_writable = false)), "False", Reason::StoreUnwritable),
        ("RelayAvailable", relay(without_store(OfRelay::StoreMoved)), "False", Reason::StoreMoved),
        ("RelayAvailable", relay(without_store(OfRelay::StoreHeld)), "False", Reason::StoreHeld),
        ("RelayAvailable", relay(failed(Reason::VolumePending)), "False", Reason::VolumePending),
        ("RelayAvailable", relay(failed(Reason::ImagePullFailed)), "False", Reason::ImagePullFailed),
        ("RelayAvailable", relay(failed(Reason::CrashLooping)), "False", Reason::CrashLooping),
        ("RelayAvailable", relay(failed(Reason::PodRefused)), "False", Reason::PodRefused),
        ("RelayAvailable", relay(failed(Reason::Unschedulable)), "False", Reason::Unschedulable),
        ("RelayAvailable", relay(failed(Reason::MountFailed)), "False", Reason::MountFailed),
        ("RelayAvailable", relay(failed(Reason::ContainerFailed)), "False", Reason::ContainerFailed),
        ("RelayAvailable", relay(failed(Reason::PodNotStarting)), "False", Reason::PodNotStarting),
        ("RelayAvailable", relay(failed(Reason::NodeLost)), "False", Reason::NodeLost),
        ("RelayAvailable", relay(failed(Reason::RelayUnreachable)), "False", Reason::RelayUnreachable),
        ("DeliveryHealthy", held(Reason::Backlog), "False", Reason::Backlog),
        ("DeliveryHealthy", held(Reason::DeadLetters), "False", Reason::DeadLetters),
        ("DeliveryHealthy", held(Reason::CrmDown), "False", Reason::CrmDown),
        ("DeliveryHealthy", held(Reason::MaxThrottled), "False", Reason::MaxThrottled),
        ("Ready", manifest_of(|value| value["spec"]["suspend"] = json!(true)), "True", Reason::Suspended),
        ("Ready", Case::with(|case| case.deletion = Some("3 to the CRM")), "False", Reason::DeletionWaits),
        (
            "TokenAuthorized",
            Case::with(|case| case.seen.subscriptions.seen = Some(vec![subscription(STAGING)])),
            "False",
            Reason::BotInUse,
        ),
        (
            "IntakeReady",
            Case::with(|case| {
                let younger = max::Subscription { time: NOW + 1, ..subscription(STAGING) };
                case.seen.subscriptions.seen.as_mut().unwrap().push(younger);
            }),
            "True",
            Reason::ForeignSubscription,
        ),
    ];
    let mut reached = std::collections::BTreeSet::new();
    for (kind, case, status, reason) in &cases {
        assert_eq!(case.shown(kind), ((*status).to_owned(), reason.to_string()), "{kind} {reason}");
        assert!(!serde_json::to_string(&case.status()).unwrap().contains("canary"), "{kind} {reason} tells a secret");
        reached.insert(((*kind).to_owned(), *reason));
    }
    for entry in api::catalogue::ENTRIES {
        assert!(
            reached.contains(&(entry.condition.to_string(), entry.reason)),
            "no case reaches {} {}",
            entry.condition,
            entry.reason
        );
    }
}

/// Dialogs come through MANGO OFFICE, and the relay has seen so much of its cabinet.
fn by_mango(seen: impl FnOnce(&mut MangoFacts)) -> Case {
    let mut case = Case::of(desired(|value| value["spec"]["intake"] = json!({"mangoDialogs": {}})));
    let mut mango = MangoFacts::default();
    seen(&mut mango);
    case.relay = running(|facts| facts.mango = Some(mango));
    case.seen.subscriptions.seen = Some(vec![subscription("https://hooks.mango-office.ru/max")]);
    case
}

#[test]
fn who_has_the_bots_webhook_at_max_is_told_where_mango_brings_the_dialogs() {
    let (mangos, others) = ("https://hooks.mango-office.ru/max", "https://stranger.example/hook");
    let paste = "Инструменты → Манго Диалоги → Группы каналов → Max: paste the bot's token into «Токен MAX» again";
    let to_mango = "MAX sends the bot's messages to MANGO OFFICE";
    let to_nobody = "MAX shows no webhook of MANGO OFFICE for the bot";
    let to_others = "MAX sends the bot's messages to an address that is not known as MANGO OFFICE's";
    let called: fn(&mut MangoFacts) = |facts| (facts.called_at, facts.quiet_at) = (Some(NOW), Some(NOW));
    for (urls, seen, words, is_step) in [
        (&[mangos][..], (|_| {}) as fn(&mut MangoFacts), to_mango, false),
        (&["https://mango-office.ru./hook"], |_| {}, to_mango, false),
        (&[mangos, others], |_| {}, "to MANGO OFFICE and to another program: https://stranger.example/hook", false),
        (&[], |_| {}, to_nobody, true),
        (&[others], |_| {}, to_others, true),
        (&["https://mango-office.ru.stranger.example/"], |_| {}, to_others, true),
        (&["https://notmango-office.ru/"], |_| {}, to_others, true),
        // Whoever calls us has the bot, whatever MAX shows.
        (&[], called, to_nobody, false),
        (&[others], called, to_others, false),
    ] {
        let mut case = by_mango(seen);
        case.seen.subscriptions.seen = Some(urls.iter().map(|url| subscription(url)).collect());
        let (name, employee) = ("Сайт".to_owned(), None);
        let channel =
            crate::channel::receiver::CabinetChannel { name, enabled: true, group: Some(7), employee, asks: false };
        case.seen.mango.seen.as_mut().unwrap().channels = vec![channel];
        let conditions = case.status().conditions;
        let message = |kind| api::conditions::find(&conditions, kind).unwrap().message.clone();
        let ready = message(api::ConditionType::IntakeReady);
        assert!(ready.contains(words), "{urls:?}: {ready}");
        assert_eq!(case.shown("IntakeReady").0, "True", "{urls:?}");
        let steps = message(api::ConditionType::ManualSteps);
        assert_eq!((ready.contains(paste), steps.contains(paste)), (is_step, is_step), "{urls:?}: {ready} {steps}");
    }
    let mut unknown = by_mango(|_| {});
    unknown.seen.subscriptions.seen = None;
    let conditions = unknown.status().conditions;
    let found = api::conditions::find(&conditions, api::ConditionType::IntakeReady).unwrap();
    assert!(!found.message.contains("MAX s"), "what is not known is not told: {}", found.message);
}

#[test]
fn steps_for_a_person_vanish_as_they_are_seen_done_and_are_told_only_where_mango_brings_the_dialogs() {
    let message = |case: &Case| {
        let conditions = case.status().conditions;
        let found = api::conditions::find(&conditions, api::ConditionType::ManualSteps).cloned();
        found.map(|found| (found.status, found.message)).unwrap_or_default()
    };
    let menu = "Инструменты → Манго Диалоги → Группы каналов → Max";
    let connect = format!("{menu} → «Подключить»: paste");
    let enable = "Инструменты → Манго Диалоги → Группы каналов: switch on the group «Сайт»".to_owned();
    let again = format!("{menu}: paste the bot's token into «Токен MAX» again");
    let receiver = format!("{menu} → «Кто будет принимать обращение»: choose the group «Поддержка»");
    let address = "Интеграции → API коннектор: https://max.acme.ru/webhooks/mango/crm/support".to_owned();
    let automatic = format!("{menu}: switch off «Автоматические ответы»");
    let all = [&connect, &enable, &again, &receiver, &address, &automatic];
    let channel = |enabled, group, asks| {
        let (name, employee) = ("Сайт".to_owned(), None);
        vec![crate::channel::receiver::CabinetChannel { name, enabled, group, employee, asks }]
    };
    let called: fn(&mut MangoFacts) = |facts| facts.called_at = Some(NOW);
    let finished: fn(&mut MangoFacts) = |facts| (facts.called_at, facts.quiet_at) = (Some(NOW), Some(NOW));
    let twice: fn(&mut MangoFacts) = |facts| {
        (facts.called_at, facts.quiet_at, facts.automatic_at) = (Some(NOW), Some(NOW), Some(NOW + 1));
    };
    let refused: fn(&mut MangoFacts) = |facts| {
        (facts.called_at, facts.quiet_at, facts.refused_since) = (Some(NOW), Some(NOW), Some(NOW));
    };
    for (seen, channels, left) in [
        (called, vec![], vec![&connect, &receiver, &automatic]),
        (|_| {}, channel(false, Some(7), false), vec![&enable, &address, &automatic]),
        (|_| {}, channel(true, None, true), vec![&receiver, &address, &automatic]),
        (called, channel(true, Some(7), false), vec![&automatic]),
        (finished, channel(true, Some(7), false), vec![]),
        (twice, channel(true, Some(7), false), vec![&automatic]),
        (refused, channel(true, Some(7), false), vec![&again]),
    ] {
        let mut case = by_mango(seen);
        case.seen.mango.seen.as_mut().unwrap().channels = channels;
        let (status, message) = message(&case);
        assert_eq!(status, if left.is_empty() { "True" } else { "False" }, "{message}");
        for step in all {
            assert_eq!(message.contains(step.as_str()), left.contains(&step), "{step}: {message}");
        }
        let is_ready = case.shown("Ready").0 == "True";
        let keeps_it_from_working = left.iter().any(|step| [&connect, &enable, &again].contains(step));
        assert_eq!(is_ready, !keeps_it_from_working, "{message}");
    }
    assert_eq!(message(&Case::new()), (String::new(), String::new()), "another intake has no such condition");
    // Without a relay what it had seen stands, and another way in takes the condition away.
    let mut case = by_mango(finished);
    case.seen.mango.seen.as_mut().unwrap().channels = channel(true, Some(7), false);
    let before = case.status();
    case.relay = RelayState::Absent { detail: String::new() };
    let after = report(&case.view(&bot()), &before);
    let found = api::conditions::find(&after.conditions, api::ConditionType::ManualSteps).unwrap();
    assert_eq!((found.status.as_str(), found.reason.as_str()), ("True", "StepsDone"));
    let after = report(&Case::new().view(&bot()), &before);
    assert!(api::conditions::find(&after.conditions, api::ConditionType::ManualSteps).is_none());
}

#[test]
fn trouble_with_the_delivery_is_written_down_only_after_it_has_held() {
    use crate::channel::report::hold;
    let behind = running(|facts| facts.oldest_seconds = 61);
    let first = hold(None, &behind, NOW).unwrap();
    assert_eq!((first.reason, first.since), (Reason::Backlog, NOW));
    assert_eq!(hold(Some(first), &behind, NOW + 59_000), Some(first), "it is the same trouble");
    assert_eq!(hold(Some(first), &running(|_| {}), NOW + 60_000), None);
    let down = running(|facts| facts.crm.ok = false);
    assert_eq!(hold(Some(first), &down, NOW + 60_000).unwrap().since, NOW + 60_000, "another trouble begins anew");
    let early = Case::with(|case| case.held = Some(Held { reason: Reason::CrmDown, since: NOW - 59_999 }));
    assert_eq!(early.shown("DeliveryHealthy"), ("True".to_owned(), "Delivering".to_owned()));
}

#[test]
fn an_annotation_longer_than_the_status_takes_is_echoed_by_its_hash_and_every_change_of_it_shows() {
    let echoed = |text: &str| {
        let case = Case::new();
        let bot = bot();
        let mut keeper_view = case.view(&bot);
        keeper_view.reconcile_at = Some(text);
        report(&keeper_view, &MaxChannelStatus::default()).last_handled_reconcile_at.unwrap()
    };
    assert_eq!(echoed("2026-11-29T00:00:00Z"), "2026-11-29T00:00:00Z");
    assert_eq!(echoed(&"я".repeat(256)), "я".repeat(256));
    let (one, other) = (echoed(&"я".repeat(257)), echoed(&"x".repeat(100_000)));
    assert!(one.len() <= 256 && other.len() <= 256 && one != other, "{one} {other}");
}

#[test]
fn the_secret_of_the_address_is_that_of_the_token_in_force() {
    let desired = desired(|_| {});
    let secret = webhook::secret(&SecretString::from(TOKEN), &desired.channel);
    assert!(plan::wanted_address(&desired).unwrap().ends_with(&webhook::fingerprint(&secret)));
}

/// It answers, and carries nothing: `Ready` must not say that all is well.
#[test]
fn a_channel_whose_store_has_left_is_not_ready_until_somebody_mends_it() {
    for (trouble, stalled) in [(OfRelay::StoreMoved, "True"), (OfRelay::StoreHeld, "False")] {
        let case = Case::with(|case| case.relay = without_store(trouble.clone()));
        let reason = trouble.name().to_owned();
        assert_eq!(case.shown("Ready"), ("False".to_owned(), reason.clone()));
        assert_eq!(case.shown("Stalled").0, stalled, "{reason}");
        assert_eq!(case.shown("DeliveryHealthy").0, "Unknown", "nothing flows");
    }
}

/// A controller that has just started, or whose relay takes its time, tells nothing that it does
/// not know.
#[test]
fn of_a_relay_that_was_not_heard_yet_what_was_told_before_stands() {
    let before = Case::new().status();
    let unheard = Case::with(|case| case.relay = RelayState::Unheard);
    assert_eq!(report(&unheard.view(&bot()), &before), before);
    let failing = Case::with(|case| case.relay = running(|facts| facts.store_writable = false)).status();
    let after = report(&unheard.view(&bot()), &failing);
    let found = api::conditions::find(&after.conditions, api::ConditionType::RelayAvailable).unwrap();
    assert_eq!((found.status.as_str(), found.reason.as_str()), ("False", "StoreUnwritable"));
    let found = unheard.status();
    let found = api::conditions::find(&found.conditions, api::ConditionType::RelayAvailable).unwrap();
    assert_eq!(found.status, "Unknown", "nothing was ever told");
    let held = Some(Held { reason: Reason::Backlog, since: NOW });
    assert_eq!(super::super::report::hold(held, &RelayState::Unheard, NOW + 1), held, "nor is trouble over");
}
