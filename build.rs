//! Lets `rt::ring_flags` stand in front of liburing's set-up call (see there for the reason).
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_SERVER").is_some() {
        println!("cargo::rustc-link-arg=-Wl,--wrap=io_uring_queue_init_params");
    }
}
