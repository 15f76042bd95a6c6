# make run    three moving test pictures through FFmpeg into RabbitMQ, and a table of what arrives
# make test   format, lints, unit and integration tests
# make faults every fault of camera, broker and machine, and docs/faults.md of what came of it;
#             RABBITMQ=4: against RabbitMQ 4
# make cameras every behaviour of cameras that is known, and docs/cameras.md of what came of it;
#             FFMPEG=7: on FFmpeg 7.1
# make soak   six cameras through random faults: MINUTES=60, SEED=... to play the same ones again
# make fuzz   each fuzz target for MINUTES=10; needs a C++ compiler too
# make loom   every order in which the threads of the hand-over can meet, on a model of its channels
# make tsan   the hand-over at full speed under the thread sanitizer
# make deb    the Debian package, in target/debian; ARCH=arm64 or ARCH=armhf for another board
# make test-deb  the package's whole life in a Debian of its own, booted with systemd
# make image  the container image, in target/image; ARCH=arm64 or ARCH=armhf for another board
# make test-image  that image run with its root read-only, frames into a broker, and its end; ARCH as above
# make bench  what a frame costs, against FFmpeg's amqp output, pika and the least possible: benches/RESULTS.md
# All install what they need (apt), as root or through sudo.

.PHONY: run test faults cameras soak fuzz loom tsan deb test-deb image test-image bench install-run install-test install-bench install-faults

SEED =

run: install-run
	scripts/run

test: install-test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test faults --test cameras -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
# Its lock file names what we depend on, and is used by hand only: `make fuzz` did not build for a while.
	cargo tree --locked --quiet --depth 0 --manifest-path fuzz/Cargo.toml
	cargo test --locked
# They wait far more than they compute.
	cargo test --locked --test cameras -- --test-threads=6

faults: install-faults
	scripts/faults

cameras: install-run
	scripts/cameras

soak: MINUTES = 60
soak: install-test
	cargo build --locked --release --examples
	MINUTES=$(MINUTES) SEED=$(SEED) cargo test --locked --release --test integration -- \
		--ignored --exact soak::six_cameras_live_through_random_faults --nocapture

fuzz: MINUTES = 10
fuzz:
	scripts/fuzz $(MINUTES)

# Under --cfg loom the crate has loom, and cargo builds all of it again: in a folder of its own.
loom:
	cd races && RUSTFLAGS="--cfg loom" cargo run --locked --release --bin loom --target-dir $${CARGO_TARGET_DIR:-../target}/loom

tsan:
	scripts/tsan

deb:
	scripts/deb $(ARCH)

test-deb:
	scripts/test-deb $(ARCH)

image:
	scripts/image $(ARCH)

test-image:
	scripts/test-image $(ARCH)

bench: install-bench
	$(if $(CASES),,cargo bench --locked --bench pieces --bench log_record)
	cargo bench --locked --bench throughput -- $(if $(CASES),--only $(CASES)) $(if $(SHORT),--rounds 1)

install-run:
	scripts/install build ffmpeg broker

install-test:
	scripts/install build lint ffmpeg broker sources browser promtool

install-bench:
	scripts/install build ffmpeg broker peers

install-faults:
	scripts/install build ffmpeg sources
