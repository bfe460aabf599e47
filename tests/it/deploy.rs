//! The main job: environments deployed to nodes, state by state.

use piseduce_protocol::state::State;
use piseduce_tests::lab::{Lab, SSH_KEY};

#[test]
fn nodes_are_deployed_with_key_and_script_and_their_cards_hold_what_was_asked_for() {
    let lab = Lab::new(2);
    let script = lab.file("script.sh", "#!/bin/sh\necho ready at $(hostname)\nexit 0\n");
    lab.deploy(&["--script", &script, "--part-size", "whole"]);
    for index in 0..2 {
        let status = lab.wait_for(index, State::Deployed, 60.0);
        let history = lab.history(status.id);
        assert_eq!(history.exit_code, Some(0));
        assert_eq!(history.output.as_deref(), Some(format!("ready at pi-{}\n", index + 1).as_str()));
    }
    lab.rack.crash(0);
    lab.rack
        .with_card(0, |card| {
            card.look(|root| {
                let read =
                    |path: &str| std::fs::read_to_string(root.join(path)).map(|text| text.trim().to_owned());
                assert_eq!(read("etc/hostname")?, "pi-1");
                assert_eq!(read("home/pi/.ssh/authorized_keys")?, SSH_KEY);
                Ok(())
            })
        })
        .unwrap();
}
