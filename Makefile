# make run    three moving test pictures through FFmpeg into RabbitMQ, and a table of what arrives
# make test   format, lints, unit and integration tests
# make faults every fault of camera, broker and machine, and docs/faults.md of what came of it;
#             RABBITMQ=4: against RabbitMQ 4
# All install what they need (apt), as root or through sudo.

.PHONY: run test faults install-run install-test install-faults

run: install-run
	scripts/run

test: install-test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test faults -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
	cargo test --locked

faults: install-faults
	scripts/faults

install-run:
	scripts/install build ffmpeg broker

install-test:
	scripts/install build lint ffmpeg broker sources browser promtool

install-faults:
	scripts/install build ffmpeg sources
