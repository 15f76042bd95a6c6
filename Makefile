# make run       publish three moving test pictures to RabbitMQ and show what arrives
# make test      check format and lints, run the unit and integration tests
# make audit     check the dependencies: licences, bans, duplicate versions, sources, advisories
# make faults    run the fault laboratory and write docs/faults.md; RABBITMQ=4: against RabbitMQ 4
# make cameras   play the behaviours of real cameras and write docs/cameras.md; FFMPEG=7: FFmpeg 7.1
# make soak      run six cameras through random faults: MINUTES=60, SEED=... to repeat a run
# make soak-video  run five cameras with passthrough through random faults, and decode all of it
# make fuzz      run each fuzz target for MINUTES=10; needs a C++ compiler too
# make loom      try the orders in which threads meet over frames, on model locks
# make tsan      run the handoff at full speed under the thread sanitizer
# make deb       build the Debian package, in target/debian; ARCH=arm64 or ARCH=armhf: for a board
# make test-deb  test the whole life of the package in a Debian that is booted with systemd
# make image     build the container image, in target/image; ARCH=arm64 or ARCH=armhf
# make test-image  run the image with a read-only root: frames into a broker, and a stop; ARCH=...
# make bench     measure what a frame costs, also with FFmpeg's amqp output and pika, and write
#                benches/RESULTS.md and benches/BOARD.md
# Each installs what it needs (apt), as root or through sudo.

.PHONY: run test audit faults cameras soak soak-video fuzz loom tsan deb test-deb image test-image bench install-run install-test install-audit install-bench install-faults

SEED =

run: install-run
	scripts/run

test: install-test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test faults --test cameras -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
# Checks fuzz/Cargo.lock, which no other step of this target reads.
	cargo tree --locked --quiet --depth 0 --manifest-path fuzz/Cargo.toml
	cargo test --locked
# These tests wait most of the time.
	cargo test --locked --test cameras -- --test-threads=6

audit: install-audit
	scripts/audit

faults: install-faults
	scripts/faults

cameras: install-run
	scripts/cameras

soak: MINUTES = 60
soak: install-test
	cargo build --locked --release --examples
	MINUTES=$(MINUTES) SEED=$(SEED) cargo test --locked --release --test integration -- \
		--ignored --exact soak::six_cameras_live_through_random_faults --nocapture

soak-video: MINUTES = 60
soak-video: install-test
	MINUTES=$(MINUTES) SEED=$(SEED) cargo test --locked --release --test integration -- \
		--ignored --exact video::soak::all_video_can_be_decoded_through_random_faults --nocapture

fuzz: MINUTES = 10
fuzz:
	scripts/fuzz $(MINUTES)

# --cfg loom makes cargo build everything again, so it has a target folder of its own.
loom:
	cd races && for bin in loom loom-in-flight; do \
		RUSTFLAGS="--cfg loom" cargo run --locked --release --bin $$bin \
			--target-dir $${CARGO_TARGET_DIR:-../target}/loom || exit; \
	done

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
	scripts/install build lint ffmpeg broker sources consumers browser promtool

install-audit:
	scripts/install build audit

install-bench:
	scripts/install build ffmpeg broker peers

install-faults:
	scripts/install build ffmpeg sources
