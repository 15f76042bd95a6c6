# make run    three moving test pictures through FFmpeg into RabbitMQ, and a table of what arrives
# make test   format, lints, unit and integration tests
# Both install what they need (apt), as root or through sudo.

.PHONY: run test install-run install-test

run: install-run
	scripts/run

test: install-test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
	cargo test --locked

install-run:
	scripts/install build ffmpeg broker

install-test:
	scripts/install build lint ffmpeg broker sources browser promtool
