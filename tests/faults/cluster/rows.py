"""The rows of the matrix: what is done to three hosts while callers on all of them call."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

from tests.faults.cluster.processes import Process
from tests.faults.cluster.scene import Row, Scene
from tests.faults.cluster.site import META, Host
from tests.faults.cluster.skew import Skew

HOUR: Final = 3_600.0


def node(host: Host) -> Process:
    assert host.node is not None
    return host.node


def application(host: Host) -> Process:
    assert host.application is not None
    return host.application


async def killed(*processes: Process) -> None:
    for process in processes:
        process.kill()
    await asyncio.gather(*(process.ended() for process in processes))


# ---- nodes


async def nothing(scene: Scene) -> None:
    await scene.get_on()


async def kill_follower(scene: Scene) -> None:
    victim = scene.followers[0]
    await killed(node(victim))
    await scene.get_on()
    await scene.bring_back(victim)


async def kill_leader(scene: Scene) -> None:
    await killed(node(scene.leader))
    await scene.get_on()
    await scene.bring_back(scene.leader)


async def kill_meta_leader(scene: Scene) -> None:
    victim = await scene.site.leader(META)
    await killed(node(victim))
    await scene.get_on()
    await scene.bring_back(victim)


async def kill_server(scene: Scene) -> None:
    os.kill(node(scene.leader).child("nats-server"), signal.SIGKILL)
    await scene.get_on()
    await scene.site.healthy()


async def kill_all_nodes(scene: Scene) -> None:
    await killed(*map(node, scene.site.hosts))
    await scene.bring_back(*scene.site.hosts)
    await scene.get_on()


async def stop_leader(scene: Scene) -> None:
    node(scene.leader).terminate()
    await node(scene.leader).ended_well()
    await scene.get_on()
    await scene.bring_back(scene.leader)


async def stop_follower(scene: Scene) -> None:
    victim = scene.followers[0]
    node(victim).terminate()
    await node(victim).ended_well()
    await scene.get_on()
    await scene.bring_back(victim)


async def pause_leader(scene: Scene) -> None:
    node(scene.leader).pause()
    await scene.lasting(5)
    node(scene.leader).resume()
    await scene.get_on()


async def pause_leader_for_long(scene: Scene) -> None:
    node(scene.leader).pause()
    await scene.lasting(15)
    node(scene.leader).resume()
    await scene.get_on()
    await scene.site.healthy()


async def pause_follower(scene: Scene) -> None:
    victim = scene.followers[0]
    node(victim).pause()
    await scene.lasting(5)
    node(victim).resume()
    await scene.get_on()


# ---- applications


async def kill_application(scene: Scene) -> None:
    victim = scene.site.hosts[0]
    await killed(application(victim))
    others = scene.without(victim)
    await scene.get_on(others)
    await scene.lasting(scene.row.ttl + 2)
    await scene.get_on(others)
    await scene.site.start_application(victim)


async def pause_application(scene: Scene) -> None:
    victim = scene.site.hosts[0]
    application(victim).pause()
    others = scene.without(victim)
    await scene.lasting(scene.row.ttl + 3)
    await scene.get_on(others)
    application(victim).resume()
    await scene.get_on()


async def leave(scene: Scene) -> None:
    victim = scene.site.hosts[0]
    others = scene.without(victim)
    application(victim).terminate()
    await application(victim).ended_well()
    await scene.get_on(others)
    await scene.site.start_application(victim)


async def upgrade(scene: Scene) -> None:
    for host in scene.site.hosts:
        application(host).terminate()
        await application(host).ended_well()
        await scene.site.start_application(host, code=2)
        await scene.get_on()


# ---- hosts, and what connects them


async def kill_host(scene: Scene) -> None:
    victim = scene.leader
    assert victim.publisher is not None
    await killed(node(victim), application(victim), victim.publisher)
    others = scene.without(victim)
    await scene.get_on(others)
    await scene.bring_back(victim)
    await scene.site.start_application(victim)


async def cut_off_leader(scene: Scene) -> None:
    victim = scene.leader
    scene.site.network.cut_off(victim.number)
    others = scene.out_of_reach(victim)
    await scene.lasting(12)
    await scene.get_on(others)
    scene.site.network.reconnect(victim.number)
    await scene.get_on()


async def cut_off_follower(scene: Scene) -> None:
    victim = scene.followers[0]
    scene.site.network.cut_off(victim.number)
    others = scene.out_of_reach(victim)
    await scene.lasting(12)
    await scene.get_on(others)
    scene.site.network.reconnect(victim.number)
    await scene.get_on()


async def lose_one_way_from_leader(scene: Scene) -> None:
    await _lose(scene, scene.leader, scene.followers[0])


async def lose_one_way_to_leader(scene: Scene) -> None:
    await _lose(scene, scene.followers[0], scene.leader)


async def _lose(scene: Scene, sender: Host, receiver: Host) -> None:
    scene.site.network.lose(sender.number, receiver.number)
    await scene.lasting(12)
    scene.site.network.lose_no_more(sender.number, receiver.number)
    await scene.get_on()


async def lose_to_everybody(scene: Scene) -> None:
    """The leader hears everybody, and nobody hears it."""
    victim = scene.leader
    others = scene.out_of_reach(victim)
    for host in others:
        scene.site.network.lose(victim.number, host.number)
    await scene.lasting(12)
    await scene.get_on(others)
    for host in others:
        scene.site.network.lose_no_more(victim.number, host.number)
    await scene.get_on()


ROWS: Final = (
    Row(name="nothing", what="nothing, for comparison", act=nothing),
    Row(
        name="follower-killed",
        what="`kill -9` of a node that leads nothing; started again",
        act=kill_follower,
    ),
    Row(
        name="leader-killed",
        what="`kill -9` of the node that leads the events; started again",
        act=kill_leader,
    ),
    Row(
        name="meta-killed",
        what="`kill -9` of the node that leads the cluster; started again",
        act=kill_meta_leader,
    ),
    Row(
        name="server-killed",
        what="`kill -9` of the leader's server alone: its node starts it again",
        act=kill_server,
    ),
    Row(name="all-killed", what="`kill -9` of all nodes; started again at once", act=kill_all_nodes),
    Row(name="leader-stopped", what="orderly end of the node that leads the events", act=stop_leader),
    Row(name="follower-stopped", what="orderly end of another node", act=stop_follower),
    Row(name="leader-paused", what="the node that leads the events stands still for 5 s", act=pause_leader),
    Row(name="leader-paused-long", what="the same for 15 s", act=pause_leader_for_long),
    Row(name="follower-paused", what="another node stands still for 5 s", act=pause_follower),
    Row(name="application-killed", what="`kill -9` of an application, TTL 2 s", act=kill_application, ttl=2),
    Row(
        name="application-killed-15",
        what="`kill -9` of an application, TTL 15 s (default)",
        act=kill_application,
    ),
    Row(
        name="application-paused",
        what="an application stands still for longer than its TTL of 2 s, and goes on",
        act=pause_application,
        ttl=2,
    ),
    Row(
        name="application-left",
        what="orderly end of an application; started again",
        act=leave,
        also_answered=frozenset({"StoreClosedError"}),
    ),
    Row(name="host-killed", what="`kill -9` of the leader's node and application at once", act=kill_host),
    Row(
        name="leader-cut-off",
        what="the leader's host is cut off from the others for 12 s",
        act=cut_off_leader,
        needs_cables=True,
    ),
    Row(
        name="leader-cut-off-2",
        what="the same with a TTL of 2 s, which ends meanwhile",
        act=cut_off_leader,
        needs_cables=True,
        ttl=2,
    ),
    Row(
        name="follower-cut-off",
        what="another host is cut off for 12 s",
        act=cut_off_follower,
        needs_cables=True,
        ttl=2,
    ),
    Row(
        name="loss-from-leader",
        what="what the leader's host sends to one other host is lost for 12 s",
        act=lose_one_way_from_leader,
        needs_cables=True,
    ),
    Row(
        name="loss-to-leader",
        what="what one host sends to the leader's is lost for 12 s",
        act=lose_one_way_to_leader,
        needs_cables=True,
    ),
    Row(
        name="leader-mute",
        what="whatever the leader's host sends is lost for 12 s, and it hears everybody",
        act=lose_to_everybody,
        needs_cables=True,
    ),
    Row(
        name="far-apart",
        what="all hosts 10 ms away from each other and from themselves; the leader killed",
        act=kill_leader,
        delay=0.01,
    ),
    Row(
        name="clocks",
        what="clocks hours apart that jump every 2 s, one running at half speed, one at double; "
        "an application stands still for longer than its TTL of 2 s",
        act=pause_application,
        ttl=2,
        skews=(
            Skew(ahead=HOUR, jumps_every=2, rate=0.5),
            Skew(ahead=-2 * HOUR, jumps_every=2, rate=2),
            None,
        ),
    ),
    Row(
        name="upgrade",
        what="rolling upgrade: one application after the other ends and starts with later code",
        act=upgrade,
        also_answered=frozenset({"StoreClosedError", "UnknownCommandError", "StreamQuarantinedError"}),
    ),
)
