//! Rounds by number: no panic anywhere, no hang, memory bounded.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The longest that one round may take by the clock on the wall.
const ROUND: Duration = Duration::from_secs(60);
/// The most memory that the process may ever have held, in KiB: several answers of the longest that is read, 64 MiB.
const MEMORY_KIB: u64 = 768 << 10;

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect(name))
}

/// Runs `round` as often as `ROUNDS` says, else `default` times, each with the dice of its number.
pub(crate) fn rounds(test: &str, default: u64, mut round: impl FnMut(&mut StdRng) -> Result<(), String>) {
    watch_panics();
    let (first, count) = (number("SEED").unwrap_or(1), number("ROUNDS").unwrap_or(default));
    let now = Arc::new(AtomicU64::new(first));
    watch_time(test.to_owned(), now.clone());
    let since = Instant::now();
    for seed in first..first + count {
        now.store(seed, Ordering::Relaxed);
        let before = PANICS.lock().unwrap().len();
        let told = round(&mut StdRng::seed_from_u64(seed));
        let again = format!("again: SEED={seed} ROUNDS=1 cargo test --test fuzz -- {test}");
        let panics = PANICS.lock().unwrap()[before..].join("\n");
        assert!(panics.is_empty(), "seed {seed}: {panics}\n{again}");
        if let Err(text) = told {
            panic!("seed {seed}: {text}\n{again}");
        }
    }
    now.store(u64::MAX, Ordering::Relaxed);
    let memory = peak_kib();
    println!("{test}: {count} rounds in {:.1?}, {} MiB at most", since.elapsed(), memory >> 10);
    assert!(memory < MEMORY_KIB, "{test}: {} MiB", memory >> 10);
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICS.lock().unwrap().push(panic.to_string());
            shown(panic);
        }));
    });
}

/// Ends the process where a round does not: nothing else could.
fn watch_time(test: String, now: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let mut seen = (now.load(Ordering::Relaxed), Instant::now());
        while seen.0 != u64::MAX {
            std::thread::sleep(Duration::from_millis(500));
            let seed = now.load(Ordering::Relaxed);
            if seed != seen.0 {
                seen = (seed, Instant::now());
            } else if seen.1.elapsed() > ROUND {
                println!(
                    "{test}: seed {seed} does not end; again: SEED={seed} ROUNDS=1 cargo test --test fuzz -- {test}"
                );
                std::process::exit(1);
            }
        }
    });
}

/// The most memory that this process ever held, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
