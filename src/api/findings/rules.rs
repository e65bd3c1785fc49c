//! The rules that neither the schema nor CEL can express.

use std::collections::HashSet;

use jiff::tz::TimeZoneDatabase;
use serde_json::Value;
use url::Url;

use super::{Finding, hours, metadata};
use crate::api::{
    AutoReply, Bot, BotCard, Date, Group, Intake, MaxChannel, Quantity, Receiver, Relay, TaintEffect,
    TolerationOperator, WorkingHours, path::FieldPath, values::DATE_PATTERN, yaml::is_template,
};

/// What is checked before the types can read the manifest, so that each mistake has its field.
pub(super) fn of_texts(manifest: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    metadata::of_channel(manifest, &mut found);
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

/// What is checked on a manifest that the types could read.
pub(super) fn of_channel(channel: &MaxChannel) -> Vec<Finding> {
    let mut found = Vec::new();
    let spec = &channel.spec;
    let at = FieldPath::default().key("spec");

    let creatio = at.key("creatio");
    address(&spec.creatio.url, &creatio.key("url"), &mut found);
    crm_path(&spec.creatio.url, &creatio.key("url"), &mut found);
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
        let has_sources = spec.widget.as_ref().is_some_and(|widget| !widget.sources.is_empty());
        if intake.mango_dialogs.is_some() && has_sources {
            let message = "are not told by MANGO OFFICE: the links work, but with intake.mangoDialogs nobody learns by which of \
                 them a customer came";
            found.push(Finding::warning(at.key("widget").key("sources"), message));
        }
    }
    relay_rules(&spec.relay, &at.key("relay"), &mut found);
    found
}

/// An address that the program calls.
fn address(text: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    sound_address(text, at, found);
    if Url::parse(text).is_ok_and(|url| url.scheme() == "http") {
        found.push(Finding::warning(at.clone(), "is not encrypted: use https:// unless the way there is private"));
    }
}

/// An address whichever way it is used.
fn sound_address(text: &str, at: &FieldPath, found: &mut Vec<Finding>) {
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
    if url.port() == Some(0) {
        found.push(Finding::error(at.clone(), "names the port 0, which does not exist: write the port, or remove it"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        found.push(Finding::error(at.clone(), "holds a login: remove it, and put credentials into a Secret"));
    }
}

/// What is copied from a browser is the address of a page of the CRM, not of the CRM.
fn crm_path(text: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    const PAGES: [&str; 8] = ["shell", "nui", "login", "odata", "servicemodel", "rest", "clientapp", "navigation"];
    let Ok(url) = Url::parse(text) else { return };
    let parts: Vec<String> = url.path().split('/').filter(|part| !part.is_empty()).map(str::to_lowercase).collect();
    // In lower case already.
    let is_page = |part: &String| {
        let extension = part.rsplit_once('.').map_or("", |(_, extension)| extension);
        PAGES.contains(&part.as_str()) || matches!(extension, "aspx" | "svc")
    };
    let page = parts.iter().any(is_page);
    if page || parts.iter().rev().skip(1).any(|part| part == "0") {
        let message = "is the address of a page of the CRM: leave what comes before it, like https://crm.acme.ru";
        found.push(Finding::error(at.clone(), message));
    } else if parts.last().is_some_and(|part| part == "0") {
        let message = "ends with /0, which is added where the CRM needs it: remove it, or set creatio.runtime";
        found.push(Finding::warning(at.clone(), message));
    }
}

fn receiver_rules(receiver: &Receiver, at: &FieldPath, found: &mut Vec<Finding>) {
    if let Some(group) = &receiver.group {
        group_rules(group, &at.key("group"), found);
    }
    if let Some(employee) = &receiver.employee {
        blank_name(employee.crm_user.as_ref(), &at.key("employee").key("crmUser"), found);
    }
    if let Some(bot) = &receiver.bot {
        bot_rules(bot, &at.key("bot"), found);
    }
}

fn group_rules(group: &Group, at: &FieldPath, found: &mut Vec<Finding>) {
    blank_name(group.name.as_ref(), &at.key("name"), found);
    for (index, user) in group.crm_users.iter().enumerate() {
        blank_name(Some(&user.crm_user), &at.key("crmUsers").index(index).key("crmUser"), found);
    }
    duplicates(group.crm_users.iter().map(|user| user.extension.as_str()), &at.key("crmUsers"), found);
}

fn bot_rules(bot: &Bot, at: &FieldPath, found: &mut Vec<Finding>) {
    address(&bot.url, &at.key("url"), found);
    let fallback = at.key("fallback");
    if let Some(group) = bot.fallback.as_ref().and_then(|fallback| fallback.group.as_ref()) {
        group_rules(group, &fallback.key("group"), found);
    }
    if let Some(employee) = bot.fallback.as_ref().and_then(|fallback| fallback.employee.as_ref()) {
        blank_name(employee.crm_user.as_ref(), &fallback.key("employee").key("crmUser"), found);
    }
}

/// Entries of a list that stand in it before already.
fn duplicates<T: Eq + std::hash::Hash>(values: impl Iterator<Item = T>, at: &FieldPath, found: &mut Vec<Finding>) {
    let mut seen = HashSet::new();
    for (index, value) in values.enumerate() {
        if !seen.insert(value) {
            found.push(Finding::error(at.index(index), "is a duplicate: remove one"));
        }
    }
}

fn blank(text: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    if is_blank(text) {
        found.push(Finding::error(at.clone(), "is blank, and MAX sends no blank messages: write a text"));
    } else if is_template(text) {
        let message =
            "holds a placeholder that nothing fills in, and customers would read it as it stands: write a text";
        found.push(Finding::warning(at.clone(), message));
    }
}

/// A name or login of which nothing can be seen.
fn blank_name(text: Option<&String>, at: &FieldPath, found: &mut Vec<Finding>) {
    if text.is_some_and(|text| is_blank(text)) {
        found.push(Finding::error(at.clone(), "is blank: write a name, or remove it"));
    }
}

/// Whether nothing of a text can be seen. An empty one is a finding of the schema.
fn is_blank(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_invisible)
}

/// White space, control characters, and characters without a picture of their own: Unicode's
/// `Default_Ignorable_Code_Point`, the format characters, and the blank pattern of Braille.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}'
            | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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

/// The zones of Russia by their distance from UTC, from +2 on.
const BY_OFFSET: [&str; 11] = [
    "Europe/Kaliningrad",
    "Europe/Moscow",
    "Europe/Samara",
    "Asia/Yekaterinburg",
    "Asia/Omsk",
    "Asia/Novosibirsk",
    "Asia/Irkutsk",
    "Asia/Yakutsk",
    "Asia/Vladivostok",
    "Asia/Magadan",
    "Asia/Kamchatka",
];

fn time_zone(name: &str, at: &FieldPath, found: &mut Vec<Finding>) {
    // The linked-in names, so that the answer is the same on every machine.
    let zones = TimeZoneDatabase::bundled();
    if zones.get(name).is_ok_and(|zone| zone.iana_name() == Some(name)) {
        if let Some(hours) = reversed(name).filter(|hours| *hours != 0) {
            let (side, other) = if hours > 0 { ("behind", '-') } else { ("ahead of", '+') };
            let count = hours.unsigned_abs();
            let message = format!(
                "is {count} h {side} UTC, because the sign of such names is reversed: write a place like Europe/Moscow, or \
                 Etc/GMT{other}{count} if that is not meant"
            );
            found.push(Finding::warning(at.clone(), message));
        }
        return;
    }
    let wanted = name.to_lowercase();
    let near = zones.available().map(|zone| zone.to_string()).filter(|zone| reversed(zone).is_none()).find(|zone| {
        let zone = zone.to_lowercase();
        zone == wanted || zone.rsplit('/').next() == Some(wanted.rsplit('/').next().unwrap_or(&wanted))
    });
    let by_offset = || {
        let hours = usize::try_from(ahead_of_utc(&wanted)?.checked_sub(2)?).ok()?;
        BY_OFFSET.get(hours).map(|zone| (*zone).to_owned())
    };
    let remedy = near.or_else(by_offset).unwrap_or_else(|| "Europe/Moscow".to_owned());
    let message = format!("{name:?} is not a time zone: write an IANA name like {remedy}");
    found.push(Finding::error(at.clone(), message));
}

/// The number in names like `Etc/GMT+3`, which is three hours behind UTC.
fn reversed(zone: &str) -> Option<i32> {
    let number = zone.strip_prefix("Etc/GMT").or_else(|| zone.strip_prefix("GMT"))?;
    number.starts_with(['+', '-']).then(|| number.parse().ok()).flatten()
}

/// Hours of what people write for a zone: `gmt+3`, `utc +3`, `+03:00`, `msk`.
fn ahead_of_utc(name: &str) -> Option<i32> {
    let bare = name.rsplit('/').next()?.trim_start_matches("gmt").trim_start_matches("utc").trim();
    let (hours, _) = bare.strip_prefix('+')?.split_once(':').unwrap_or((bare.strip_prefix('+')?, ""));
    hours.parse().ok()
}

/// The product page, "Карточка бота: ключевые требования к полям"; lengths, the nick and the scheme
/// of the site are in the schema.
fn bot_card(card: &BotCard, at: &FieldPath, found: &mut Vec<Finding>) {
    if let Some(name) = &card.name {
        let letter = |c: char| {
            c.is_ascii_alphanumeric() || c == ' ' || (('\u{400}'..='\u{52f}').contains(&c) && c.is_alphabetic())
        };
        if !name.chars().all(letter) {
            let message = "may have Latin and Cyrillic letters, digits and spaces only, no emoji: remove the others";
            found.push(Finding::error(at.key("name"), message));
        } else if is_blank(name) {
            found.push(Finding::error(at.key("name"), "is blank: write a name"));
        }
    }
    if let Some(phone) = &card.phone
        && !is_phone(phone)
    {
        let message = "is not a telephone of the card: write +7 and 7 to 10 digits in groups, like +7 999-99-99";
        found.push(Finding::error(at.key("phone"), message));
    }
    if card.site.as_ref().is_some_and(|site| site.contains("..")) {
        found.push(Finding::error(at.key("site"), "has two dots in a row: write it like https://acme.ru"));
    }
    if card.description.as_ref().is_some_and(|text| is_blank(text)) {
        found.push(Finding::error(at.key("description"), "is blank: write a text, or remove it"));
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
    let unsigned = intake.mango_dialogs.as_ref().and_then(|dialogs| dialogs.unsigned_from.as_deref());
    let networks = at.key("mangoDialogs").key("unsignedFrom");
    for (index, network) in unsigned.unwrap_or_default().iter().enumerate() {
        let message = match network.parse::<ipnet::IpNet>() {
            Ok(network) if network.prefix_len() > 0 => continue,
            Ok(_) => "lets everybody call without a signature: name the addresses of MANGO OFFICE only",
            Err(_) => "is not a network: write it like 81.88.80.132/32",
        };
        found.push(Finding::error(networks.index(index), message));
    }
    let Some(webhook) = &intake.webhook else { return };
    let at = at.key("webhook");
    if webhook.host.as_ref().is_some_and(|host| !is_public(host)) {
        found.push(Finding::warning(at.key("host"), format!("{UNREACHABLE}: write one like max.acme.ru")));
    }
    if let Some(ingress) = &webhook.ingress {
        let annotations = ingress.annotations.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        metadata::annotation_keys(Some(&annotations.collect()), &at.key("ingress").key("annotations"), found);
    }
    let Some(text) = &webhook.url else { return };
    let before = found.len();
    sound_address(text, &at.key("url"), found);
    if let Some(url) = Url::parse(text).ok().filter(|url| url.scheme() == "http") {
        let message =
            "is not encrypted, and MAX calls https:// only: write it with https:// and serve a certificate there";
        // A MAX that is played, and calls plain addresses too, stands where no public name leads.
        let at = at.key("url");
        let is_wrong = url.host_str().is_some_and(is_public);
        found.push(if is_wrong { Finding::error(at, message) } else { Finding::warning(at, message) });
    }
    let sound = found[before..].iter().all(|finding| finding.severity == super::Severity::Warning);
    let Ok(url) = Url::parse(text) else { return };
    if sound && url.scheme() == "https" && url.port().is_some() {
        let message = "names a port, and MAX calls port 443 only: route 443 to the relay and remove the port";
        found.push(Finding::warning(at.key("url"), message));
    }
    if sound && url.host_str().is_some_and(|host| !is_public(host)) {
        found.push(Finding::warning(at.key("url"), format!("{UNREACHABLE}: write one like https://max.acme.ru")));
    }
}

const UNREACHABLE: &str = "is not a public name, and MAX will not reach it";

/// Whether the world can have a certificate for that name and find it: no bare name, no number, no
/// name of a private network.
fn is_public(host: &str) -> bool {
    const PRIVATE: [&str; 13] = [
        "localhost",
        "local",
        "localdomain",
        "lan",
        "home",
        "corp",
        "internal",
        "intranet",
        "private",
        "test",
        "example",
        "invalid",
        "svc",
    ];
    let host = host.trim_end_matches('.').to_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = host.starts_with('[') || last.bytes().all(|byte| byte.is_ascii_digit());
    host.contains('.') && !number && !PRIVATE.contains(&last)
}

fn relay_rules(relay: &Relay, at: &FieldPath, found: &mut Vec<Finding>) {
    if relay.storage.as_ref().is_some_and(|storage| storage.ephemeral.is_some()) {
        let message = "is for trials only: undelivered messages die with the pod; use volumeClaim for customers";
        found.push(Finding::warning(at.key("storage").key("ephemeral"), message));
    }
    let size =
        relay.storage.as_ref().and_then(|storage| storage.volume_claim.as_ref()).and_then(|claim| claim.size.as_ref());
    if size.and_then(Quantity::amount).is_some_and(|amount| amount <= 0.0) {
        let field = at.key("storage").key("volumeClaim").key("size");
        found.push(Finding::error(field, "is nothing: give the size of the volume, like 1Gi"));
    }
    for key in relay.node_selector.keys() {
        metadata::label_key(key, &at.key("nodeSelector").key(key), found);
    }
    resources(relay, &at.key("resources"), found);
    for (index, toleration) in relay.tolerations.iter().enumerate() {
        let at = at.key("tolerations").index(index);
        if toleration.operator == TolerationOperator::Exists && toleration.value.is_some() {
            found.push(Finding::error(
                at.key("value"),
                "is not compared with the operator Exists: remove one of the two",
            ));
        }
        if toleration.operator == TolerationOperator::Equal && toleration.key.is_none() {
            let message = "has no key: give one, or set the operator Exists to tolerate everything";
            found.push(Finding::error(at.clone(), message));
        }
        if toleration.toleration_seconds.is_some() && toleration.effect != Some(TaintEffect::NoExecute) {
            let message = "counts with the effect NoExecute only: write it, or remove the seconds";
            found.push(Finding::error(at.key("tolerationSeconds"), message));
        }
    }
}

/// As the API server takes them of a container.
fn resources(relay: &Relay, at: &FieldPath, found: &mut Vec<Finding>) {
    let Some(given) = &relay.resources else { return };
    for (kind, amounts) in [("requests", &given.requests), ("limits", &given.limits)] {
        for name in amounts.keys() {
            let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
            let known =
                standard || name.starts_with("hugepages-") || (name.contains('/') && metadata::is_qualified(name));
            if !known {
                let message = "is no resource of a container: write cpu, memory or ephemeral-storage";
                found.push(Finding::error(at.key(kind).key(name), message));
            }
        }
    }
    for (name, request) in &given.requests {
        let limit = given.limits.get(name).and_then(Quantity::amount);
        if let (Some(request), Some(limit)) = (request.amount(), limit)
            && request > limit
        {
            let message = "is more than the limit: lower it, or raise the limit";
            found.push(Finding::error(at.key("requests").key(name), message));
        }
    }
}
