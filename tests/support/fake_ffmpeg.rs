//! A test binary that plays FFmpeg.
fn main() {}
