//! What an agent reads: one update of MAX as a line or two of text and the files that go with it. Pure.
//!
//! Creatio knows text and files. Everything else (stickers, contacts, places, forwards, edits, removals, presses of buttons) becomes
//! a readable line in square brackets, and what this program does not know says so to the agent. The agents of the product are
//! Russian, so the lines are.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::creatio::MessageType;
use crate::max::update::{Event, Update};
use crate::max::{Attachment, Link, Message, vcard};
use crate::policy::Millis;

/// An update of a customer's that concerns the CRM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incoming {
    /// The key of the message in the CRM (wire contract, "externalId").
    pub external_id: String,
    /// The message it replaces: of edits and removals only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replaces: String,
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<IncomingFile>,
    /// What a bot is asked: the words as the customer wrote them, or the payload of the pressed button. Only where there are none it
    /// gets the agents' lines.
    #[serde(skip)]
    pub question: String,
}

/// A file that is still at MAX.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncomingFile {
    /// Its id in the CRM, made from the message and the place in it, so that a repeated upload is the same file.
    pub id: Uuid,
    /// The message it stands in, from which a fresh address comes when this one has expired.
    pub mid: String,
    /// Its place among the attachments of that message.
    pub index: usize,
    pub url: Option<Url>,
    /// Of videos: for the address of the picture that plays best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_token: Option<String>,
    pub name: String,
    pub kind: MessageType,
    /// Filled in when it is in the CRM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredFile>,
    /// How often MAX did not give it, though it gave others.
    #[serde(default)]
    pub failures: u32,
    /// How often it could not be had because nothing could.
    #[serde(default)]
    pub outages: u32,
    /// The CRM lost it once and it was stored again.
    #[serde(default)]
    pub lost: bool,
}

/// A file that is in the CRM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredFile {
    pub mime_type: String,
    pub size: u64,
}

/// What the agent is to read of an update, if anything.
#[must_use]
pub fn incoming(update: &Update) -> Option<Incoming> {
    let mut incoming = lines(update)?;
    let said = match &update.event {
        Event::MessageCreated(message) => message.text.clone(),
        Event::MessageCallback { payload, .. } => payload.clone(),
        _ => None,
    };
    incoming.question = if let Some(said) = said.filter(|said| !said.trim().is_empty()) {
        said
    } else {
        let files = incoming.files.iter().map(|file| format!("[Файл] {}", file.name));
        let shown = Some(incoming.text.clone()).filter(|text| !text.is_empty());
        shown.into_iter().chain(files).collect::<Vec<_>>().join("\n")
    };
    Some(incoming)
}

fn lines(update: &Update) -> Option<Incoming> {
    match &update.event {
        Event::MessageCreated(message) => Some(of_message(message, message.mid.clone(), String::new(), None)),
        Event::MessageEdited(message) => Some(of_message(
            message,
            format!("{}:edit:{}", message.mid, update.timestamp),
            message.mid.clone(),
            Some("[Сообщение изменено]"),
        )),
        Event::MessageRemoved { message_id } => Some(Incoming {
            external_id: format!("{message_id}:removed"),
            replaces: message_id.clone(),
            text: "[Клиент удалил сообщение]".to_owned(),
            files: Vec::new(),
            question: String::new(),
        }),
        Event::MessageCallback { payload, .. } => Some(Incoming {
            external_id: format!("press:{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, update.dedup_key().as_bytes())),
            replaces: String::new(),
            text: match payload {
                Some(payload) if !payload.trim().is_empty() => format!("[Нажата кнопка] {payload}"),
                _ => "[Нажата кнопка]".to_owned(),
            },
            files: Vec::new(),
            question: String::new(),
        }),
        _ => None,
    }
}

/// A line in front of a message that came too late to stand in its place (see `relay`, "A gap in the webhooks").
#[must_use]
pub fn late(text: &str, sent_at: Millis) -> String {
    format!("[Отправлено клиентом {}, получено с опозданием]\n{text}", moscow(sent_at))
}

/// A line in place of a file that cannot be had.
#[must_use]
pub fn missing_file(name: &str, reason: &str) -> String {
    format!("[Файл «{name}» не передан: {reason}]")
}

/// `24.11.2026 15:04:05 МСК`: the agents' manuals and the cabinet speak Moscow time.
fn moscow(at: Millis) -> String {
    let zone = TimeZone::get("Europe/Moscow").unwrap_or(TimeZone::UTC);
    jiff::Timestamp::from_millisecond(at)
        .map(|at| at.to_zoned(zone).strftime("%d.%m.%Y %H:%M:%S МСК").to_string())
        .unwrap_or_default()
}

fn of_message(message: &Message, external_id: String, replaces: String, first: Option<&str>) -> Incoming {
    let mut lines: Vec<String> = first.map(str::to_owned).into_iter().collect();
    let mut files = Vec::new();
    if let Some(link) = &message.link {
        of_link(link, &external_id, &mut lines, &mut files);
    }
    lines.extend(message.text.clone());
    of_attachments(&message.attachments, &message.mid, &external_id, &mut lines, &mut files);
    if lines.is_empty() && files.is_empty() {
        lines.push("[Сообщение без содержимого, которое умеет показать MaxChannel]".to_owned());
    }
    Incoming { external_id, replaces, text: lines.join("\n"), files, question: String::new() }
}

fn of_link(link: &Link, external_id: &str, lines: &mut Vec<String>, files: &mut Vec<IncomingFile>) {
    let from = link.sender.as_ref().map(crate::max::User::name).filter(|name| !name.is_empty());
    if link.kind == "reply" {
        const QUOTE: usize = 100;
        let quote = link.text.clone().unwrap_or_else(|| "сообщение без текста".to_owned());
        let short: String = quote.chars().take(QUOTE).collect();
        let dots = if quote.chars().count() > QUOTE { "…" } else { "" };
        lines.push(format!("[В ответ на: «{short}{dots}»]"));
        return;
    }
    lines.push(from.map_or_else(|| "[Пересланное сообщение]".to_owned(), |from| format!("[Переслано от: {from}]")));
    lines.extend(link.text.clone());
    of_attachments(&link.attachments, &link.mid, external_id, lines, files);
}

fn of_attachments(
    attachments: &[Attachment],
    mid: &str,
    external_id: &str,
    lines: &mut Vec<String>,
    files: &mut Vec<IncomingFile>,
) {
    for (index, attachment) in attachments.iter().enumerate() {
        let mut file = |url: &Option<Url>, video_token: Option<String>, name: String, kind| {
            let key = format!("{external_id}/{}", files.len());
            files.push(IncomingFile {
                id: Uuid::new_v5(&crate::creatio::ids::namespace(), format!("file/{key}").as_bytes()),
                mid: mid.to_owned(),
                index,
                url: url.clone(),
                video_token,
                name,
                kind,
                stored: None,
                failures: 0,
                outages: 0,
                lost: false,
            });
        };
        match attachment {
            Attachment::Image(image) => file(&image.url, None, format!("фото-{}.webp", index + 1), MessageType::Image),
            Attachment::Video(video) => {
                file(&video.url, video.token.clone(), format!("видео-{}.mp4", index + 1), MessageType::Video);
            }
            Attachment::Audio(audio) => {
                file(&audio.url, None, format!("аудио-{}.mp3", index + 1), MessageType::Audio);
                if let Some(heard) = audio.transcription.as_deref().filter(|heard| !heard.trim().is_empty()) {
                    lines.push(format!("[Расшифровка] {heard}"));
                }
            }
            Attachment::File(sent) => {
                let name = sent.filename.as_deref().map_or_else(|| format!("файл-{}", index + 1), safe_name);
                file(&sent.url, None, name, MessageType::File);
            }
            Attachment::Sticker(_) => lines.push("[Стикер]".to_owned()),
            Attachment::Contact(contact) => {
                let card = contact.vcf_info.as_deref().map(vcard::read).unwrap_or_default();
                let name = card.name.or_else(|| contact.user.as_ref().map(crate::max::User::name)).unwrap_or_default();
                let phones = card.phones.join(", ");
                let line = format!("[Контакт] {name} {phones}");
                lines.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            Attachment::Share(share) => {
                let parts = [share.title.clone(), share.url.as_ref().map(Url::to_string)];
                lines.push(format!("[Ссылка] {}", parts.into_iter().flatten().collect::<Vec<_>>().join(" ")));
            }
            Attachment::Location(place) => lines.push(format!(
                "[Геопозиция] {lat}, {lon} https://yandex.ru/maps/?pt={lon},{lat}&z=16",
                lat = place.latitude,
                lon = place.longitude
            )),
            Attachment::InlineKeyboard => {}
            Attachment::Unknown { kind } => {
                lines.push(format!("[Клиент прислал вложение вида «{kind}», которое MaxChannel показать не умеет]"));
            }
        }
    }
}

/// The last part of a name that a customer's device chose, without what could lead anywhere.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control()).take(200).collect();
    if clean.trim().is_empty() { "файл".to_owned() } else { clean }
}
