//! What a failed call says about the side that it went to: the one place where errors become
//! [`Trouble`].

use crate::contract::Trouble;
use crate::{creatio, max};

/// None: the error concerns only what was asked for, and MAX is well.
pub(super) fn of_max(error: &max::Error) -> Option<Trouble> {
    if error.is_not_understood() {
        return Some(Trouble::MaxNotUnderstood);
    }
    match error.class() {
        max::Class::Unauthorized => Some(Trouble::Unauthorized),
        max::Class::AccountBlocked => Some(Trouble::AccountBlocked),
        max::Class::PollRefused => Some(Trouble::PollRefused),
        max::Class::Throttled { .. } => Some(Trouble::Throttled),
        max::Class::Transient => Some(Trouble::MaxUnreachable),
        max::Class::RecipientGone
        | max::Class::NotReady
        | max::Class::ForeignMedia
        | max::Class::NotFound
        | max::Class::Refused
        | max::Class::TooLarge
        | max::Class::ForbiddenAddress => None,
    }
}

/// None: the error concerns only what was asked for, and the CRM is well.
pub(super) fn of_crm(error: &creatio::Error) -> Option<Trouble> {
    match error.class() {
        creatio::Class::CredentialsInvalid => Some(Trouble::CredentialsInvalid),
        creatio::Class::AccessDenied => Some(Trouble::AccessDenied),
        creatio::Class::PackageMissing => Some(Trouble::PackageMissing),
        creatio::Class::Throttled { .. } => Some(Trouble::Throttled),
        creatio::Class::NotUnderstood => Some(Trouble::CrmNotUnderstood),
        creatio::Class::WrongAddress | creatio::Class::Transient | creatio::Class::Unreachable => {
            Some(Trouble::CrmUnreachable)
        }
        creatio::Class::NotFound
        | creatio::Class::AlreadyExists
        | creatio::Class::InUse
        | creatio::Class::BadRequest
        | creatio::Class::TooLarge => None,
    }
}
