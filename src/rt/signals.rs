//! SIGTERM and SIGINT: the first drains, the second ends at once. SIGBUS: a mapped file can't be
//! read any more, which is fatal.

use super::bell::Bell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// What the first signal sets; shared with the executor.
#[derive(Debug, Default)]
pub struct Stop(AtomicI32);

impl Stop {
    /// Whether a signal came.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
}

/// Takes the two signals over, on a thread of its own. Must be called before any other thread
/// starts, so that all of them inherit the mask.
///
/// # Errors
/// No thread could be started.
pub fn watch(bell: Arc<Bell>) -> io::Result<Arc<Stop>> {
    let stop = Arc::new(Stop::default());
    let shared = stop.clone();
    // SAFETY: a signal set lives on the stack and is initialised before use.
    let set = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        set
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            loop {
                let mut signal = 0;
                // SAFETY: both point to live values.
                if unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {
                    continue;
                }
                if shared.0.swap(signal, Ordering::AcqRel) != 0 {
                    std::process::exit(128 + signal);
                }
                bell.ring();
            }
        })?;
    Ok(stop)
}

/// Makes SIGBUS end the process with `code` and one sentence.
pub fn on_sigbus(code: i32) {
    static CODE: AtomicI32 = AtomicI32::new(1);
    extern "C" fn handler(_: libc::c_int) {
        const SENTENCE: &[u8] =
            b"a data file can't be read through its memory map (SIGBUS): look at \
the kernel log for errors of the device below dataDir and dataLogDir, then start again\n";
        // SAFETY: write and _exit may be called in a handler; the bytes are static.
        unsafe {
            libc::write(2, SENTENCE.as_ptr().cast(), SENTENCE.len());
            libc::_exit(CODE.load(Ordering::Relaxed));
        }
    }
    CODE.store(code, Ordering::Relaxed);
    // SAFETY: the handler calls nothing but what a handler may call.
    unsafe { libc::signal(libc::SIGBUS, handler as *const () as libc::sighandler_t) };
}
