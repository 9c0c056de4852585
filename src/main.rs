//! The provider's executable.

use std::process::ExitCode;

use anklume::plugin;
use anklume::resources::Anklume;

fn main() -> ExitCode {
    plugin::serve("anklume", Anklume)
}
