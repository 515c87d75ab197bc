"""Starts a target, connects to it and warms it up: the beginning of run, sweep, search, tune and profile."""
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from benchmark.issuing import runner
from benchmark.targets import null_server
from benchmark.targets.child import Child, free_ports, python_module
from benchmark.targets.connections import PreparedConnection, Workload
from benchmark.targets.first_answers import first_answers
from benchmark.targets.inputs import Inputs
from benchmark.targets.starting import Instance, alive, start_all
from benchmark.targets.target import Target
from benchmark.verdicts.arrivals import Closed
from benchmark.verdicts.measurement import Measurement
from benchmark.verdicts.scenario import Scenario
from commandline import step

CEILING_S = 1.0


class Warm(NamedTuple):
    """A process that is ready, its connections (one for each worker), and a description of its inputs."""

    instance: Instance
    connections: list[PreparedConnection]
    inputs: str


@contextmanager
def warm(scenario: Scenario, target: Target, inputs: Inputs) -> Iterator[Warm]:
    """Starts the target, opens the scenario's connections and warms the target up with them."""
    with ExitStack() as stack:
        with step(f"Start {target.name}"):
            instance = stack.enter_context(start_all([target], 1))[target.name][0]
        with alive(instance, "while it was warmed up"), step(f"Warm up, {scenario.warmup_s:g} s"):
            connections, description = stack.enter_context(open_connections(scenario, instance, inputs))
            runner.run(replace(scenario, arrivals=Closed(len(connections))), connections, scenario.warmup_s)
        stack.enter_context(alive(instance, "while it was measured"))
        yield Warm(instance, connections, description)


@contextmanager
def open_connections(scenario: Scenario, instance: Instance, inputs: Inputs
                     ) -> Iterator[tuple[list[PreparedConnection], str]]:
    """(a connection per worker, description of the inputs). All have the same requests; the first answers are the
    expected ones for all later requests."""
    with ExitStack() as stack:
        connect = partial(instance.connect, scenario.protocol, inputs.signature)
        first = first_answers(inputs, instance, connect, scenario.batch, instance.target.version_directory)
        connections = [first.connection, *(connect() for _ in range(runner.workers_for(scenario) - 1))]
        for connection in connections:
            stack.callback(connection.close)
        workload = Workload(scenario.batch, first.batches, first.expected)
        yield [PreparedConnection(connection, workload) for connection in connections], first.inputs


def repeats(scenario: Scenario, target: Target, inputs: Inputs, engine: str = "own"
            ) -> Iterator[tuple[Measurement, str]]:
    """Yields (measurement, description of the inputs) of each repeat as soon as it is done.

    The generator's ceiling is measured first and is part of each measurement.
    """
    with warm(scenario, target, inputs) as (instance, connections, description):
        with step("Measure how many requests the load generator can send"):
            ceiling = generator_ceiling(scenario, connections[0].workload)
        for repeat in range(scenario.repeats):
            with step(f"{target.name}: {scenario.name}, {scenario.measure_s:g} s ({repeat + 1} of {scenario.repeats})"):
                if engine == "loadgen":
                    from benchmark.issuing.loadgen import run as issued_by_loadgen
                    measurement = issued_by_loadgen(scenario, connections)
                else:
                    measurement = runner.run(scenario, connections)
                yield replace(measurement, ceiling_per_s=ceiling), description
                instance.await_death("while it was measured", 0)


def generator_ceiling(scenario: Scenario, workload: Workload) -> float:
    """The requests of this workload per second that one connection can send to a server that does nothing."""
    rest_port, grpc_port = free_ports(2)
    argv = python_module("benchmark", "null-server", "--rest-port", str(rest_port), "--grpc-port", str(grpc_port))
    with Child("null server", argv) as child:
        target = Target("null server", null_server.MODEL, "address")
        instance = Instance(target, child, f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}")
        instance.wait()
        # A request to an in-process target costs less than one over a network protocol, so gRPC's rate is a lower
        # bound for it.
        protocol = "grpc" if scenario.protocol == "in-process" else scenario.protocol
        connection = PreparedConnection(instance.connect(protocol), workload, check=False)
        for index in range(20):
            connection.send(index)
        measurement = runner.run(replace(scenario, arrivals=Closed(1)), [connection], CEILING_S)
        connection.connection.close()
    return measurement.rate_per_s
