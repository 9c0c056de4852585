//! The toy as an executable, for a real core.

mod toy;

fn main() -> std::process::ExitCode {
    anklume::plugin::serve("test/toy", toy::Toy::default())
}
