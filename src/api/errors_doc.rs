//! `docs/errors.md`, made from the catalogue.

use std::fmt::Write as _;

use super::{
    ConditionType,
    catalogue::{Class, ENTRIES, Entry, Language},
};

/// The text of `docs/errors.md`: the documented errors by number, then every reason by condition,
/// in English and Russian.
pub fn errors_markdown() -> String {
    let mut page = String::from(
        "<!-- Generated from src/api/catalogue.rs by `make generate`; do not edit. -->\n\
         # Errors and remedies · Ошибки и решения\n\n\
         What `kubectl describe mxc`, `/status` and `maxchannel status` name as the reason of a condition. The numbers are those of the \
         product page, «Ошибки и решения при подключении канала MAX».\n\n\
         | Error · Ошибка | Condition | Reason |\n|---|---|---|\n",
    );
    let mut numbered: Vec<&Entry> = ENTRIES.iter().filter(|entry| entry.error.is_some()).collect();
    numbered.sort_by_key(|entry| entry.error);
    for entry in numbered {
        let number = entry.error.unwrap_or_default();
        let link = anchor(entry);
        let _ = writeln!(page, "| {number} | `{}` | [{}](#{link}) |", entry.condition, entry.reason);
    }
    for condition in ConditionType::ALL {
        let mut entries = ENTRIES.iter().filter(|entry| entry.condition == condition).peekable();
        if entries.peek().is_none() {
            continue;
        }
        let _ = writeln!(page, "\n## {condition}");
        for entry in entries {
            let number = entry.error.map(|number| format!(" · error {number}")).unwrap_or_default();
            let _ = writeln!(page, "\n<a id=\"{}\"></a>\n### {}{number}\n", anchor(entry), entry.reason);
            let _ = writeln!(page, "{}\n", class(entry.class));
            for (language, cause, remedy, mender) in [
                (Language::English, "Cause", "Remedy", "Who can mend it"),
                (Language::Russian, "Причина", "Решение", "Кто может исправить"),
            ] {
                let text = entry.text(language);
                let who = entry.mender.describe(language);
                let _ = writeln!(
                    page,
                    "- **{cause}:** {}.\n- **{remedy}:** {}\n- **{mender}:** {who}.",
                    text.cause, text.remedy
                );
            }
        }
    }
    page
}

fn anchor(entry: &Entry) -> String {
    format!("{}-{}", entry.condition, entry.reason).to_lowercase()
}

const fn class(class: Class) -> &'static str {
    match class {
        Class::Informational => "Informational: `Ready` does not depend on it · Справочно: на `Ready` не влияет.",
        Class::Waiting => "Passes on its own or by a step of the program · Проходит само или после шага программы.",
        Class::Outage => {
            "An outage: after a success `Ready` stays true for 15 minutes · Сбой на той стороне: после успешной работы `Ready` \
             остаётся True 15 минут."
        }
        Class::Stalled => {
            "Only a person can mend it: `Stalled` is true · Исправить может только человек: `Stalled` = True."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == errors_markdown(), "docs/errors.md is stale: run `make generate` and commit the result");
    }

    #[test]
    fn the_page_has_every_reason_with_its_remedies() {
        let page = errors_markdown();
        for entry in ENTRIES {
            for part in [
                entry.reason.as_str(),
                entry.english.remedy,
                entry.russian.remedy,
                entry.english.cause,
                entry.russian.cause,
            ] {
                assert!(page.contains(part), "{part}");
            }
        }
        assert_eq!(page.matches("\n| ").count(), 9, "a head and eight rows for seven errors");
    }
}
