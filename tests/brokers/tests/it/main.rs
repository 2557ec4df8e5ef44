//! Deliveries to message brokers. They stand apart, because the clients of brokers take long to link.

mod adapters_everywhere;
mod sink_amqp;
mod sink_kafka;
mod sink_nats;
