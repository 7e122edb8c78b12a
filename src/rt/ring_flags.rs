//! Sets io_uring's COOP_TASKRUN, for which glommio's builder has no knob.
//!
//! glommio links liburing statically and calls `io_uring_queue_init_params`; the linker's `--wrap`
//! (see `build.rs`) sends that call here. Completions then run when the executor enters the
//! kernel, and no longer by interrupting it: rescheduling interrupts on the server's core fall from
//! tens of thousands a second to none. DEFER_TASKRUN must never be added: glommio collects
//! completions without entering the kernel, and would hang.

/// Linux 5.19.
const COOP_TASKRUN: u32 = 1 << 8;

/// The head of `struct io_uring_params`.
#[repr(C)]
pub struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
}

unsafe extern "C" {
    fn __real_io_uring_queue_init_params(
        entries: u32,
        ring: *mut libc::c_void,
        params: *mut Params,
    ) -> i32;
}

/// Stands in front of liburing's function.
///
/// # Safety
/// Called by glommio only, with the arguments that liburing's function asks for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_io_uring_queue_init_params(
    entries: u32,
    ring: *mut libc::c_void,
    params: *mut Params,
) -> i32 {
    // SAFETY: the caller passes a valid io_uring_params, whose head `Params` is, and whatever the
    // real function asks for besides; both are passed on unchanged but for the flag.
    unsafe {
        let asked = (*params).flags;
        (*params).flags = asked | COOP_TASKRUN;
        let result = __real_io_uring_queue_init_params(entries, ring, params);
        if result != -libc::EINVAL {
            return result;
        }
        (*params).flags = asked; // a kernel that does not know the flag
        __real_io_uring_queue_init_params(entries, ring, params)
    }
}
