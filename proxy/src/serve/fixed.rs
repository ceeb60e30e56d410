//! Settings that a running process keeps: what is opened, started or laid out once.

use checkgate_config::Settings;

/// One such setting.
struct Fixed {
    name: &'static str,
    differs: fn(&Settings, &Settings) -> bool,
    keep: fn(&Settings, &mut Settings),
}

macro_rules! fixed {
    ($($name:literal => $($field:ident).+;)+) => {
        &[$(Fixed {
            name: $name,
            differs: |running, read| running.$($field).+ != read.$($field).+,
            keep: |running, read| running.$($field).+.clone_into(&mut read.$($field).+),
        }),+]
    };
}

/// All of them. Bounds of what engines remember are among them: an engine cannot change its bounds and keep its
/// memory.
const FIXED: &[Fixed] = fixed! {
    "listen" => listen;
    "admin.listen" => admin.listen;
    "admin.token" => admin.token;
    "admin.tls" => admin.tls;
    "authz.listen" => authz.listen;
    "threads" => threads;
    "lanes" => lanes;
    "state" => state;
    "findings" => findings;
    "record" => record;
    "log" => log;
    "telemetry" => telemetry;
    "clients.remembered" => clients.remembered;
    "clients.new_keys_per_address" => clients.new_keys_per_address;
    "limits.lane_bytes" => limits.lane_bytes;
    "limits.lane_share_per_client" => limits.lane_share_per_client;
    "limits.open_questions" => limits.open_questions;
    "limits.record_bytes" => limits.record_bytes;
};

/// Whether TCP listeners speak TLS at all; their certificates may change.
const TLS: Fixed = Fixed {
    name: "tls",
    differs: |running, read| running.tls.is_some() != read.tls.is_some(),
    keep: |running, read| read.tls.clone_from(&running.tls),
};

/// The listener of bouncers and its TLS; everything else about them may change.
const BOUNCERS: Fixed = Fixed {
    name: "crowdsec.serve",
    differs: |running, read| {
        let listener = |settings: &Settings| {
            settings.crowdsec.serve.as_ref().map(|serve| (serve.listen, serve.tls.clone()))
        };
        listener(running) != listener(read)
    },
    keep: |running, read| match (&running.crowdsec.serve, &mut read.crowdsec.serve) {
        (Some(running), Some(read)) => (read.listen, read.tls) = (running.listen, running.tls.clone()),
        (running, read) => read.clone_from(running),
    },
};

/// Puts back into `read` what the process keeps from `running`, and names what that changed.
pub fn keep(running: &Settings, read: &mut Settings) -> Vec<&'static str> {
    let changed: Vec<_> =
        FIXED.iter().chain([&TLS, &BOUNCERS]).filter(|fixed| (fixed.differs)(running, read)).collect();
    changed.iter().for_each(|fixed| (fixed.keep)(running, read));
    let mut names: Vec<_> = changed.iter().map(|fixed| fixed.name).collect();
    // A listener begins with TLS or without; with it, every file may change.
    if running.tls.is_some() != read.tls.is_some() {
        read.tls.clone_from(&running.tls);
        names.push("tls");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts;

    fn settings(text: &str) -> Settings {
        checkgate_config::read(text, "checkgate.yaml", &parts::all()).unwrap()
    }

    #[test]
    fn what_a_process_keeps_is_put_back_and_named() {
        let running = settings("upstream: http://127.0.0.1:1\n");
        let mut read = settings(
            "upstream: http://127.0.0.1:2\nlisten: 127.0.0.1:9\nlanes: 3\nlimits: {lane_bytes: 128MiB, columns: 8}\n",
        );
        assert_eq!(keep(&running, &mut read), ["listen", "lanes", "limits.lane_bytes"]);
        assert_eq!((&read.listen, read.lanes), (&running.listen, running.lanes));
        assert_eq!(read.limits.columns, 8, "what may change was put back as well");
        assert!(keep(&running, &mut read).is_empty(), "what was put back differs no more");
    }

    #[test]
    fn the_listener_of_bouncers_stays_and_bouncers_come_and_go() {
        let serving = |port: u16, name: &str| {
            let hash = "0".repeat(64);
            settings(&format!(
                "upstream: http://127.0.0.1:1\ncrowdsec: {{serve: {{listen: '127.0.0.1:{port}', bouncers: [{{name: {name}, \
                 sha256: '{hash}'}}]}}}}\n"
            ))
        };
        let running = serving(9, "edge");
        let mut read = serving(10, "shop");
        assert_eq!(keep(&running, &mut read), ["crowdsec.serve"]);
        let serve = read.crowdsec.serve.unwrap();
        assert_eq!((serve.listen.port(), serve.bouncers[0].name.as_str()), (9, "shop"));
        let mut without = settings("upstream: http://127.0.0.1:1\n");
        assert_eq!(keep(&running, &mut without), ["crowdsec.serve"]);
        assert_eq!(without.crowdsec.serve, running.crowdsec.serve, "a door cannot be taken away either");
    }
}
