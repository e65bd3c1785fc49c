//! What only a person can set in the cabinet of MANGO OFFICE, as steps with its own menus: no
//! public method sets them. A step is left out once it is seen done. Pure.

use super::receiver::{CabinetChannel, Directory, Resolved};
use super::validate::Desired;
use crate::api::Language;
use crate::contract::{MangoFacts, webhook};

/// Where the settings of the channel stand in the cabinet.
pub(super) const CHANNEL_MENU: &str = "Инструменты → Манго Диалоги → Группы каналов → Max";

/// What is known of the cabinet.
#[derive(Clone, Copy)]
pub(super) struct Cabinet<'a> {
    pub directory: &'a Directory,
    /// Who shall have the dialogs.
    pub resolved: Option<&'a Resolved>,
    /// None: no relay has told yet.
    pub facts: Option<&'a MangoFacts>,
    /// MAX shows that the bot's webhook is not MANGO OFFICE's.
    pub is_not_mangos: bool,
}

/// The steps that are left, numbered, in the order in which the cabinet is gone through.
pub(super) fn left(desired: &Desired, cabinet: Cabinet<'_>, language: Language) -> Option<String> {
    let say = |english: String, russian: String| match language {
        Language::English => english,
        Language::Russian => russian,
    };
    let mut steps = Vec::new();
    let channel = cabinet.directory.channel();
    if channel.is_none() {
        let menu = "Инструменты → Манго Диалоги → Группы каналов → Max → «Подключить»";
        steps.push(say(
            format!("{menu}: paste the bot's token into «Токен MAX», then «Сохранить»"),
            format!("{menu}: вставьте токен бота в поле «Токен MAX» и нажмите «Сохранить»"),
        ));
    }
    if let Some(CabinetChannel { name, .. }) = channel.filter(|channel| !channel.enabled) {
        steps.push(say(
            format!("Инструменты → Манго Диалоги → Группы каналов: switch on the group «{name}»"),
            format!("Инструменты → Манго Диалоги → Группы каналов: включите группу «{name}»"),
        ));
    }
    // Whoever has called has the bot, whatever MAX shows.
    let is_elsewhere = cabinet.is_not_mangos && cabinet.facts.is_some_and(|facts| facts.called_at.is_none());
    let is_refused = cabinet.facts.is_some_and(|facts| facts.refused_since.is_some());
    if channel.is_some() && (is_refused || is_elsewhere) {
        steps.push(token_step(language).to_owned());
    }
    let is_served = |resolved| channel.is_some_and(|channel| channel.serves(resolved, cabinet.directory));
    if let Some(resolved) = cabinet.resolved.filter(|resolved| !is_served(resolved)) {
        steps.push(receiver_step(resolved, language));
    }
    if let (Some(base), Some(MangoFacts { called_at: None, .. })) = (&desired.public_base, cabinet.facts) {
        let address = webhook::mango_address(base, &desired.channel);
        steps.push(say(
            format!("Интеграции → API коннектор: {address} as the address of the external system"),
            format!("Интеграции → API коннектор: адрес внешней системы {address}"),
        ));
    }
    let is_quiet = cabinet.facts.is_some_and(MangoFacts::is_quiet);
    // What customers are sent by the rules the cabinet must not send them, too.
    if desired.rules.texts().next().is_some() && !is_quiet && (cabinet.facts.is_some() || channel.is_none()) {
        let switches = "«Автоматические ответы», «Показывать сообщение при закрытии обращения», «Нерабочее время»";
        steps.push(say(
            format!("{CHANNEL_MENU}: switch off {switches}, which the manifest has (seen done with the first dialog that ends)"),
            format!("{CHANNEL_MENU}: выключите {switches}, они есть в манифесте (станет видно, когда закончится первый диалог)"),
        ));
    }
    let numbered = steps.iter().enumerate().map(|(index, step)| format!("{}) {step}", index + 1));
    (!steps.is_empty()).then(|| numbered.collect::<Vec<_>>().join("; "))
}

/// Where the bot's token goes once more.
pub(super) fn token_step(language: Language) -> &'static str {
    match language {
        Language::English => {
            "Инструменты → Манго Диалоги → Группы каналов → Max: paste the bot's token into «Токен MAX» again, then \
             «Сохранить»"
        }
        Language::Russian => {
            "Инструменты → Манго Диалоги → Группы каналов → Max: вставьте токен бота в поле «Токен MAX» ещё раз и \
             нажмите «Сохранить»"
        }
    }
}

/// Whom to choose, and where.
pub(super) fn receiver_step(resolved: &Resolved, language: Language) -> String {
    let name = &resolved.name;
    let field = format!("{CHANNEL_MENU} → «Кто будет принимать обращение»");
    match (language, resolved.is_group) {
        (Language::English, true) => format!("{field}: choose the group «{name}», then «Сохранить»"),
        (Language::English, false) => format!("{field}: choose the employee «{name}», then «Сохранить»"),
        (Language::Russian, true) => format!("{field}: выберите группу «{name}» и нажмите «Сохранить»"),
        (Language::Russian, false) => format!("{field}: выберите сотрудника «{name}» и нажмите «Сохранить»"),
    }
}
