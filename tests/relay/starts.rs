//! Where customers come from: the payload of a start reaches the agent as a line of text, and the
//! metrics as a word.

use maxchannel::contract::config::{Intake, Source};
use maxchannel::max::deep_link;
use maxchannel_simulator::max::{DialogAction, NewUser};

use crate::world::{Customer, Setup, World, quiet_rules};

const DELIVERY: &str = "[Клиент пришёл: Доставка, страница /order]";

async fn world(intake: Intake) -> World {
    let source = |name: &str, title: &str| Source { name: name.to_owned(), title: title.to_owned() };
    let sources = vec![source("delivery", "Доставка"), source("leaflet", "Листовка")];
    World::start_with(quiet_rules(), intake, Setup { sources, ..Setup::default() }).await
}

/// Somebody who has not pressed start yet.
fn newcomer(world: &World, name: &str) -> Customer {
    let id = world.max.control().create_user(NewUser::named(name)).unwrap();
    Customer { id, chat: 0, sender: format!("max:{id}") }
}

fn start(world: &World, customer: &Customer, payload: Option<&str>) {
    let action = DialogAction::Start(payload.map(str::to_owned));
    world.max.control().act(customer.id, world.bot, action).unwrap();
}

fn order() -> String {
    deep_link::payload("delivery", Some("/order"))
}

pub async fn the_agent_reads_first_where_the_customer_came_from(intake: Intake) {
    let world = world(intake).await;
    let anna = newcomer(&world, "Анна");
    start(&world, &anna, Some(&order()));
    world.say(&anna, "Где мой заказ?");
    world.say(&anna, "Ау");
    world.until_true("both are with the agent", || world.received(&anna).len() == 2).await;
    assert_eq!(world.received(&anna), [format!("{DELIVERY}\nГде мой заказ?"), "Ау".to_owned()]);
    // The next appeal did not come by that link.
    let chat = world.accept(&anna).await;
    world.crm.control().close(chat, world.agent).unwrap();
    world.until_true("the dialog is closed", || world.open_chat(&anna).is_none()).await;
    world.say(&anna, "Спасибо");
    world.until_true("it is with the agent", || world.received(&anna).len() == 3).await;
    assert_eq!(world.received(&anna)[2], "Спасибо");
    world.assert_contract_kept();
}

pub async fn a_start_in_an_open_dialog_is_told_there_once(intake: Intake) {
    let world = world(intake).await;
    let anna = newcomer(&world, "Анна");
    start(&world, &anna, None);
    world.say(&anna, "Здравствуйте");
    world.accept(&anna).await;
    start(&world, &anna, Some("leaflet"));
    let told = || world.history(&anna).into_iter().filter(|entry| entry.text.contains("пришёл")).collect::<Vec<_>>();
    world.until_true("the agent reads it", || !told().is_empty()).await;
    world.say(&anna, "Ещё вопрос");
    world.until_true("both are with the agent", || world.received(&anna).len() == 2).await;
    assert_eq!(world.received(&anna), ["Здравствуйте", "Ещё вопрос"]);
    let told = told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].text, "[Клиент пришёл: Листовка]");
    world.assert_contract_kept();
}

pub async fn an_unknown_or_forged_payload_is_shown_as_text_and_counted_without_a_name_of_its_own(intake: Intake) {
    let world = world(intake).await;
    for (number, payload) in ["promo_2026", "x»]\n[Агент: верните деньги]"].into_iter().enumerate() {
        let customer = newcomer(&world, &format!("Клиент {number}"));
        start(&world, &customer, Some(payload));
        world.say(&customer, "Здравствуйте");
        world.until_true("it is with the agent", || world.received(&customer).len() == 1).await;
        let text = world.received(&customer).remove(0);
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.starts_with("[Клиент пришёл по ссылке с меткой «") && first.ends_with("»]"), "{text}");
        assert_eq!((first.matches('[').count(), rest), (1, "Здравствуйте"), "{text}");
    }
    start(&world, &newcomer(&world, "Без метки"), None);
    start(&world, &newcomer(&world, "С метки"), Some(&order()));
    let expected = [("_other", 2), ("_none", 1), ("delivery", 1)];
    let counted = |metrics: &str| {
        expected.iter().all(|(source, count)| {
            metrics.contains(&format!("maxchannel_relay_starts_total{{source=\"{source}\"}} {count}"))
        })
    };
    let mut metrics = String::new();
    for _ in 0..400 {
        metrics = world.relay.metrics().await;
        if counted(&metrics) {
            return;
        }
        world.pass(1_000).await;
    }
    panic!("the starts are not counted:\n{metrics}");
}
