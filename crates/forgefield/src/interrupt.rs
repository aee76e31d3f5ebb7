use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// A flag that the first Ctrl-C raises; the second one ends the process at once.
///
/// Commands that have nothing to keep do not ask for it and end at the first.
pub fn flag() -> &'static AtomicBool {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let raised = ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        // Without a handler Ctrl-C ends the process at once; records are written line by line, so nothing is lost.
        drop(raised);
    });
    &STOP
}

/// Whether Ctrl-C was pressed.
pub fn raised() -> bool {
    STOP.load(Ordering::Relaxed)
}
