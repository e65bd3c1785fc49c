//! `maxchannel creatio-package`: writes the package that is installed into Creatio.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use super::USAGE;
use crate::creatio_package::{self, NAME, VERSION, archive};

/// Write the package for Creatio into a file.
///
/// The file goes into the Application Hub of the site ("Install from file"), or is installed by
/// `maxchannel creatio-install`. The same program always writes the same bytes. Keep the file's
/// name: Creatio calls the application after it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maxchannel creatio-package -o MaxChannel.gz\n  maxchannel creatio-package -o MaxChannel.zip --form simple"
)]
pub(super) struct Args {
    /// Where to write it: a file that ends in .gz or .zip, or a folder, into which MaxChannel.gz is
    /// written.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How the site compiles the package.
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

/// The forms of the package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// Into a library of its own: an error of ours stops nobody else's code.
    #[default]
    Assembly,
    /// Into the site's one library, for a site that cannot do the other.
    Simple,
}

impl From<Form> for creatio_package::Form {
    fn from(form: Form) -> Self {
        match form {
            Form::Assembly => Self::Assembly,
            Form::Simple => Self::Simple,
        }
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    match write(args) {
        Ok(path) => super::print(&format!("{NAME} {VERSION} written to {}\n", path.display())),
        Err(message) => {
            eprintln!("maxchannel creatio-package: {message}");
            ExitCode::from(USAGE)
        }
    }
}

fn write(args: &Args) -> Result<PathBuf, String> {
    let path =
        if args.output.is_dir() { args.output.join(creatio_package::archive_name(false)) } else { args.output.clone() };
    let zipped = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => false,
        Some("zip") => true,
        _ => return Err(format!("{}: the file's name must end in .gz or .zip", path.display())),
    };
    std::fs::write(&path, bytes(args.form.into(), zipped)?).map_err(|error| unwritable(&path, &error))?;
    Ok(path)
}

/// The package as `.gz`, or as a `.zip` with it inside.
pub(super) fn bytes(form: creatio_package::Form, zipped: bool) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("the package cannot be packed: {error}");
    let package = creatio_package::package(form).map_err(failed)?;
    if zipped { archive::zip(&creatio_package::archive_name(false), &package).map_err(failed) } else { Ok(package) }
}

fn unwritable(path: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}
