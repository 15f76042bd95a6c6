# make run    three moving test pictures through FFmpeg into RabbitMQ, and a table of what arrives
# make test   format, lints, unit and integration tests
# make bench  what a frame costs, against FFmpeg's amqp output, pika and the least possible: benches/RESULTS.md
#             CASES=a,f runs only these, SHORT=1 each but once; neither writes results
# All install what they need (apt), as root or through sudo.

.PHONY: run test bench install-run install-test install-bench

run: install-run
	scripts/run

test: install-test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
	cargo test --locked

bench: install-bench
	$(if $(CASES),,cargo bench --locked --bench pieces)
	cargo bench --locked --bench throughput -- $(if $(CASES),--only $(CASES)) $(if $(SHORT),--rounds 1)

install-run:
	scripts/install build ffmpeg broker

install-test:
	scripts/install build lint ffmpeg broker sources browser promtool

install-bench:
	scripts/install build ffmpeg broker peers
