//! The rules that neither the schema nor CEL can express.

use std::collections::HashSet;

use jiff::tz::TimeZoneDatabase;
use serde_json::Value;
use url::Url;

use super::{Finding, hours};
use crate::api::{
    AutoReply, Bot, BotCard, Date, Group, Intake, MaxChannel, Quantity, Receiver, Relay, TolerationOperator,
    WorkingHours, path::FieldPath, values::DATE_PATTERN,
};

/// What is checked before the types can read the manifest, so that each mistake has its field.
pub(super) fn of_texts(manifest: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    name(manifest, &mut found);
    let spec = FieldPath::default().key("spec");
    let hours = spec.key("workingHours");
    let mut date = |field: FieldPath, value: &Value| {
        // What is not even written like a date is a finding of the schema.
        let Some(text) = value.as_str().filter(|text| looks_like_a_date(text)) else { return };
        if text.parse::<Date>().is_err() {
            found.push(Finding::error(field, format!("{text} is not in the calendar: write a day that exists")));
        }
    };
    for (index, value) in items(manifest, "/spec/workingHours/holidays") {
        date(hours.key("holidays").index(index), value);
    }
    for (index, value) in items(manifest, "/spec/workingHours/workdays") {
        date(hours.key("workdays").index(index).key("date"), &value["date"]);
    }
    let mut quantity = |field: FieldPath, value: &Value| {
        if serde_json::from_value::<Quantity>(value.clone()).is_err() {
            found.push(Finding::error(field, "is not a quantity: write it like 500m, 64Mi or 1Gi"));
        }
    };
    let relay = spec.key("relay");
    if let Some(size) = manifest.pointer("/spec/relay/storage/volumeClaim/size") {
        quantity(relay.key("storage").key("volumeClaim").key("size"), size);
    }
    for kind in ["requests", "limits"] {
        let resources = manifest.pointer(&format!("/spec/relay/resources/{kind}")).and_then(Value::as_object);
        for (name, value) in resources.into_iter().flatten() {
            quantity(relay.key("resources").key(kind).key(name), value);
        }
    }
    found
}

fn items<'a>(manifest: &'a Value, pointer: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    manifest.pointer(pointer).and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn looks_like_a_date(text: &str) -> bool {
    debug_assert_eq!(DATE_PATTERN, "^[0-9]{4}-[0-9]{2}-[0-9]{2}$");
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
}

/// The names that the API server checks by itself, for those who have none at hand.
fn name(manifest: &Value, found: &mut Vec<Finding>) {
    let metadata = FieldPath::default().key("metadata");
    let label = |text: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !text.is_empty()
            && text.len() <= 63
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    let words = "small Latin letters, digits and hyphens, with a letter or digit at both ends";
    match manifest.pointer("/metadata/name") {
        Some(Value::String(name)) if label(name) => {}
        Some(Value::String(_)) => found.push(Finding::error(metadata.key("name"), format!("is not a name: {words}"))),
        _ => found.push(Finding::error(metadata.key("name"), "is missing: give the channel a name, a text")),
    }
    match manifest.pointer("/metadata/namespace") {
        None => {}
        Some(Value::String(namespace)) if label(namespace) => {}
        Some(_) => found.push(Finding::error(metadata.key("namespace"), format!("is not a namespace: {words}"))),
    }
}

/// What is checked on a manifest that the types could read.
pub(super) fn of_channel(channel: &MaxChannel) -> Vec<Finding> {
    let mut found = Vec::new();
    let spec = &channel.spec;
    let at = FieldPath::default().key("spec");

    let creatio = at.key("creatio");
    address(&spec.creatio.url, &creatio.key("url"), &mut found);
    if Url::parse(&spec.creatio.url).is_ok_and(|url| url.path().trim_end_matches('/').ends_with("/0")) {
        let message = "ends with /0, which is added where the CRM needs it: remove it, or set creatio.runtime";
        found.push(Finding::warning(creatio.key("url"), message));
    }
    if let Some(url) = &spec.creatio.identity_url {
        address(url, &creatio.key("identityUrl"), &mut found);
    }

    match &spec.receiver {
        None => found.push(Finding::warning(
            at.key("receiver"),
            "is missing, so customers are not answered (documented error 6): name an employee, a group or a bot",
        )),
        Some(receiver) => receiver_rules(receiver, &at.key("receiver"), &mut found),
    }

    replies(&spec.auto_replies, &at.key("autoReplies"), &mut found);
    if let Some(hours) = &spec.working_hours {
        working_hours(hours, &at.key("workingHours"), &mut found);
        if spec.off_hours.is_none() {
            let message = "has no effect without offHours: say there what happens outside of it, or remove it";
            found.push(Finding::warning(at.key("workingHours"), message));
        }
    }
    if let Some(off_hours) = &spec.off_hours {
        let at = at.key("offHours");
        replies(off_hours.auto_replies.as_deref().unwrap_or_default(), &at.key("autoReplies"), &mut found);
        if let Some(bot) = &off_hours.bot {
            bot_rules(bot, &at.key("bot"), &mut found);
        }
    }
    if let Some(message) = &spec.close_message {
        blank(&message.text, &at.key("closeMessage").key("text"), &mut found);
    }
    if let Some(card) = &spec.bot_card {
        bot_card(card, &at.key("botCard"), &mut found);
    }
    if let Some(intake) = &spec.intake {
        intake_rules(intake, &at.key("intake"), &mut found);
    }
    relay_rules(&spec.relay, &at.key("relay"), &mut found);
    found
}

/// An address that the program calls.
fn address(text: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    // Another scheme is a finding of the schema.
    if !text.starts_with("https://") && !text.starts_with("http://") {
        return;
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            found.push(Finding::error(
                at.clone(),
                format!("is not an address ({error}): write it like https://crm.acme.ru"),
            ));
            return;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        found.push(Finding::error(at.clone(), "holds a login: remove it, and put credentials into a Secret"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        found.push(Finding::error(at.clone(), "must end before ? and #: remove what follows"));
    }
    if url.scheme() == "http" {
        found.push(Finding::warning(at.clone(), "is not protected: use https:// unless the way there is private"));
    }
}

fn receiver_rules(receiver: &Receiver, at: &FieldPath, found: &mut Vec<Finding>) {
    if let Some(group) = &receiver.group {
        group_rules(group, &at.key("group"), found);
    }
    if let Some(bot) = &receiver.bot {
        bot_rules(bot, &at.key("bot"), found);
    }
}

fn group_rules(group: &Group, at: &FieldPath, found: &mut Vec<Finding>) {
    duplicates(group.crm_users.iter().map(|user| user.extension.as_str()), &at.key("crmUsers"), found);
}

fn bot_rules(bot: &Bot, at: &FieldPath, found: &mut Vec<Finding>) {
    address(&bot.url, &at.key("url"), found);
    if let Some(group) = bot.fallback.as_ref().and_then(|fallback| fallback.group.as_ref()) {
        group_rules(group, &at.key("fallback").key("group"), found);
    }
}

/// Entries of a list that stand in it before already.
fn duplicates<T: Eq + std::hash::Hash>(values: impl Iterator<Item = T>, at: &FieldPath, found: &mut Vec<Finding>) {
    let mut seen = HashSet::new();
    for (index, value) in values.enumerate() {
        if !seen.insert(value) {
            found.push(Finding::error(at.index(index), "stands in the list twice: remove one"));
        }
    }
}

fn blank(text: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    // An empty text is a finding of the schema.
    if !text.is_empty() && text.trim().is_empty() {
        found.push(Finding::error(at.clone(), "is blank, and MAX sends no blank messages: write a text"));
    }
}

fn replies(replies: &[AutoReply], at: &FieldPath, found: &mut Vec<Finding>) {
    for (index, reply) in replies.iter().enumerate() {
        blank(&reply.text, &at.index(index).key("text"), found);
    }
    let mut seen = HashSet::new();
    for (index, reply) in replies.iter().enumerate() {
        if !seen.insert((reply.after.seconds(), &reply.text)) {
            let message = "says the same at the same time as another one, so the customer reads it twice: remove one";
            found.push(Finding::warning(at.index(index), message));
        }
    }
}

fn working_hours(hours: &WorkingHours, at: &FieldPath, found: &mut Vec<Finding>) {
    time_zone(&hours.time_zone, &at.key("timeZone"), found);
    for (index, interval) in hours.week.iter().enumerate() {
        duplicates(interval.days.iter(), &at.key("week").index(index).key("days"), found);
    }
    if let Some((first, second)) = hours::overlap_in_week(&hours.week) {
        let message = if first == second {
            "overlaps itself from one day into the next: end it earlier, or name fewer days".to_owned()
        } else {
            format!("overlaps week[{first}]: change the times or the days of one of them")
        };
        found.push(Finding::error(at.key("week").index(second), message));
    }
    duplicates(hours.holidays.iter(), &at.key("holidays"), found);
    if let Some((first, second)) = hours::overlap_of_workdays(&hours.workdays) {
        let message = format!("overlaps workdays[{first}]: change the date or the times of one of them");
        found.push(Finding::error(at.key("workdays").index(second), message));
    }
    let holidays: HashSet<Date> = hours.holidays.iter().copied().collect();
    for (index, workday) in hours.workdays.iter().enumerate().filter(|(_, workday)| holidays.contains(&workday.date)) {
        let message = format!("{} is a holiday as well: remove one of the two", workday.date);
        found.push(Finding::error(at.key("workdays").index(index).key("date"), message));
    }
    if hours.week.is_empty() && hours.workdays.is_empty() {
        found.push(Finding::warning(at.clone(), "has no working hour at all, so it is always off hours: fill in week"));
    }
}

fn time_zone(name: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    // The linked-in names, so that the answer is the same on every machine.
    let zones = TimeZoneDatabase::bundled();
    if zones.get(name).is_ok_and(|zone| zone.iana_name() == Some(name)) {
        return;
    }
    let wanted = name.to_lowercase();
    let near = zones.available().map(|zone| zone.to_string()).find(|zone| {
        let zone = zone.to_lowercase();
        zone == wanted || zone.rsplit('/').next() == Some(wanted.rsplit('/').next().unwrap_or(&wanted))
    });
    let remedy = near.unwrap_or_else(|| "Europe/Moscow".to_owned());
    let message = format!("{name:?} is not a time zone: write an IANA name like {remedy}");
    found.push(Finding::error(at.clone(), message));
}

/// The product page, "Карточка бота: ключевые требования к полям"; lengths, the nick and the scheme of the site are in the schema.
fn bot_card(card: &BotCard, at: &FieldPath, found: &mut Vec<Finding>) {
    if let Some(name) = &card.name {
        let letter = |c: char| {
            c.is_ascii_alphanumeric() || c == ' ' || (('\u{400}'..='\u{52f}').contains(&c) && c.is_alphabetic())
        };
        if !name.chars().all(letter) {
            let message = "may have Latin and Cyrillic letters, digits and blanks only, no emoji: remove the others";
            found.push(Finding::error(at.key("name"), message));
        } else if !name.is_empty() && name.trim().is_empty() {
            found.push(Finding::error(at.key("name"), "is blank: write a name"));
        }
    }
    if let Some(phone) = &card.phone
        && !is_phone(phone)
    {
        let message = "is not a telephone of the card: write +7 and 7 to 10 digits in groups, like +7 999-99-99";
        found.push(Finding::error(at.key("phone"), message));
    }
    if let Some(site) = card.site.as_deref().and_then(|site| site.strip_prefix("https://"))
        && !site.chars().any(char::is_whitespace)
        && !(site.starts_with(|c: char| c.is_ascii_alphanumeric())
            && site.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '/')))
    {
        let message = "may have Latin letters, digits, dots and hyphens only: remove the others";
        found.push(Finding::error(at.key("site"), message));
    }
}

/// `+7` and 7 to 10 digits, in groups apart by one blank or hyphen, a group perhaps in brackets.
fn is_phone(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("+7") else { return false };
    let digits = rest.chars().filter(char::is_ascii_digit).count();
    let plain = rest.replace(") ", "-").replace(" (", "-").replace(['(', ')', ' '], "-");
    let groups = plain.strip_prefix('-').unwrap_or(&plain);
    let balanced = rest.matches('(').count() == rest.matches(')').count() && rest.matches('(').count() <= 1;
    let grouped = groups.split('-').all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    (7..=10).contains(&digits) && balanced && grouped
}

fn intake_rules(intake: &Intake, at: &FieldPath, found: &mut Vec<Finding>) {
    let Some(webhook) = &intake.webhook else { return };
    let at = at.key("webhook");
    if let Some(host) = &webhook.host
        && (!host.contains('.') || host.parse::<std::net::Ipv4Addr>().is_ok())
    {
        let message = "is not a public name, and MAX will not reach it: write one like max.acme.ru";
        found.push(Finding::warning(at.key("host"), message));
    }
    if let Some(url) = &webhook.url {
        let before = found.len();
        address(url, &at.key("url"), found);
        let sound = found[before..].iter().all(|finding| finding.severity == super::Severity::Warning);
        if sound && Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.port().is_some()) {
            let message = "names a port, and MAX calls port 443 only: route 443 to the relay and remove the port";
            found.push(Finding::warning(at.key("url"), message));
        }
    }
}

fn relay_rules(relay: &Relay, at: &FieldPath, found: &mut Vec<Finding>) {
    if relay.storage.as_ref().is_some_and(|storage| storage.ephemeral.is_some()) {
        let message = "is for trials only: undelivered messages die with the pod; use volumeClaim for customers";
        found.push(Finding::warning(at.key("storage").key("ephemeral"), message));
    }
    for (index, toleration) in relay.tolerations.iter().enumerate() {
        let at = at.key("tolerations").index(index);
        if toleration.operator == TolerationOperator::Exists && toleration.value.is_some() {
            found.push(Finding::error(
                at.key("value"),
                "is not compared with the operator Exists: remove one of the two",
            ));
        }
        if toleration.operator == TolerationOperator::Equal && toleration.key.is_none() {
            found.push(Finding::error(at, "has no key: give one, or set the operator Exists to tolerate everything"));
        }
    }
}
