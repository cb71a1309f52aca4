"""Suppliers that break the contract, one way each: mutations of the reference, with the contract test that must find them.

`FAULTS` is the list; `test_contracts_faults.py` runs each through the contract. `reference` is handed in by whoever loads this
file, because test files do not import one another.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kubeup_core import InvalidSpec, NoCapacity, NotFound, NotReady, Outcome, Phase, Result, Taken, Unknown
from kubeup_core.plugins import load_file

reference = load_file(Path(__file__).with_name("reference.py"))
Client, Machines, Networks = reference.Client, reference.Machines, reference.Networks
LoadBalancers, Volumes, Parts = reference.LoadBalancers, reference.Volumes, reference.Parts
label, part_name = reference.label, reference.part_name


@dataclass(frozen=True)
class Fault:
    name: str
    contract: str  # machines | networks | load_balancers | volumes
    found_by: str
    parts: object
    longest_call: float = 5.0


FAULTS: list[Fault] = []


def fault(contract: str, found_by: str, part: str = "", **more: object) -> Callable[[type], type]:
    """Registers a class as a broken part. part: what it replaces, the supplier of that contract by default."""

    def register(broken: type) -> type:
        parts = Parts(**{part or contract: broken})
        FAULTS.append(Fault(broken.__name__, contract, found_by, parts, **more))
        return broken

    return register


# -- machines: creation


@fault("machines", "test_the_same_launch_again_gives_the_same_machines")
class CreateIsNotIdempotent(Machines):
    def launch(self, launch):
        return tuple(self.member(launch, i, self.another(launch, i)) for i in range(len(launch.members)))

    def another(self, launch, index):
        name = f"{launch.members[index].name}-{uuid.uuid4().hex}"
        return self.client.make("machine", name, launch.member_mark(index), member=launch.members[index].name)


@fault("machines", "test_the_same_launch_after_a_restart_gives_the_same_machines")
class IdempotentOnlyInMemory(CreateIsNotIdempotent):
    def __init__(self, client):
        super().__init__(client)
        self.done = {}

    def launch(self, launch):
        if launch.token in self.done:
            return self.lookup(launch)
        self.done[launch.token] = super().launch(launch)
        return self.done[launch.token]


@fault("machines", "test_another_launch_of_the_same_names_makes_other_machines")
class NamesakeIsTakenForItsOwn(Machines):
    def create(self, launch, index):
        mark = launch.member_mark(index)
        for thing in self.client.all("machine")[0]:
            if thing.props["member"] == launch.members[index].name and thing.mark.installation == mark.installation:
                return thing
        return super().create(launch, index)


@fault("machines", "test_changed_parameters_under_a_known_token_look_up")
class ChangedParametersAreAnError(Machines):
    def __init__(self, client):
        super().__init__(client)
        self.images = {}

    def launch(self, launch):
        if self.images.setdefault(launch.token, launch.offer.image) != launch.offer.image:
            raise InvalidSpec("IdempotentParameterMismatch")
        return super().launch(launch)


@fault("machines", "test_a_dead_member_is_not_replaced")
class DeadAreReplaced(Machines):
    def known(self, launch):
        return {i: t for i, t in super().known(launch).items() if t.ended is None}

    def create(self, launch, index):
        if index in super().known(launch):
            member = replace(launch.members[index], name=f"{launch.members[index].name}-again")
            launch = replace(launch, members=(*launch.members[:index], member, *launch.members[index + 1 :]))
        return super().create(launch, index)


@fault("machines", "test_a_dead_member_does_not_hide_the_living")
class DeadHideTheLiving(Machines):
    def launch(self, launch):
        if any(t.ended is not None for t in self.known(launch).values()):
            return tuple(Result(id="", outcome=Outcome.DEAD) for _ in launch.members)
        return super().launch(launch)


@fault("machines", "test_results_come_one_per_member_in_order")
class ResultsAreOutOfOrder(Machines):
    def launch(self, launch):
        return super().launch(launch)[::-1]


@fault("machines", "test_results_come_one_per_member_in_order")
class ResultsAreMissing(Machines):
    def lookup(self, launch):
        return super().lookup(launch)[1:]


@fault("machines", "test_lookup_makes_nothing")
class LookupLaunches(Machines):
    def lookup(self, launch):
        return self.launch(launch)


@fault("machines", "test_made_is_final")
class MadeIsNotFinal(Machines):
    def create(self, launch, index):
        return replace(super().create(launch, index), settles=0)

    def result(self, thing):
        if self.state(thing).phase == Phase.PENDING and thing.settles:
            return Result(id=thing.id, outcome=Outcome.PENDING)
        return super().result(thing)


@fault("machines", "test_offers_satisfy_what_is_wanted")
class DearestOfferFirst(Machines):
    def offers(self, want):
        return super().offers(want)[::-1]


@fault("machines", "test_offers_satisfy_what_is_wanted")
class OffersAreTooSmall(Machines):
    def offers(self, want):
        return tuple(replace(offer, memory=want.memory // 2) for offer in super().offers(want))


@fault("machines", "test_check_does_no_request")
class CheckAsksThePlace(Machines):
    def check(self, want):
        self.client.all("machine")
        return ()


# -- machines: observation


@fault("machines", "test_a_machine_carries_its_mark_from_the_start")
class MarkLacksTheCluster(Machines):
    def state(self, thing):
        state = super().state(thing)
        return replace(state, ref=replace(state.ref, mark=replace(state.ref.mark, cluster="")))


class FirstPageOnly(Client):
    def all(self, kind):
        page, _, silent = self.list(kind)
        return page, silent


@fault("machines", "test_observe_returns_every_page", part="client")
class ObserveMissesPages(FirstPageOnly):
    pass


@fault("machines", "test_a_machine_that_is_going_is_still_observed")
class TheDyingAreLeftOut(Machines):
    def observe(self, scope):
        seen = super().observe(scope)
        return replace(seen, items=tuple(s for s in seen.items if s.phase not in (Phase.DELETING, Phase.GONE)))


@fault("machines", "test_a_cluster_scope_shows_that_cluster_only")
class ScopeOfAClusterIsIgnored(Machines):
    def observe(self, scope):
        return super().observe(replace(scope, cluster=None))


class EverybodysThings(Client):
    def observed(self, kind, scope):
        things, silent = self.all(kind)
        return [t for t in things if t.mark], frozenset(silent)


@fault("machines", "test_machines_of_another_installation_are_not_observed", part="client")
class OtherInstallationsAreObserved(EverybodysThings):
    pass


@fault("machines", "test_a_scope_of_every_installation_shows_theirs_too")
class EveryInstallationIsNone(Machines):
    def observe(self, scope):
        seen = super().observe(scope)
        return replace(seen, items=tuple(s for s in seen.items if s.ref.mark.installation == scope.installation))


@fault("machines", "test_what_is_in_doubt_is_looked_up_by_id")
class DoubtIsIgnored(Machines):
    def observe(self, scope):
        return super().observe(replace(scope, doubt=()))


@fault("machines", "test_a_doubt_about_what_is_not_there_is_no_error")
class DoubtRaises(Machines):
    def observe(self, scope):
        for ref in scope.doubt:
            self.client.get(ref.id)
        return super().observe(scope)


@fault("machines", "test_phases_do_not_go_backwards")
class RunningIsPendingAgain(Machines):
    def state(self, thing):
        state = super().state(thing)
        again = state.phase == Phase.RUNNING and self.client.place.now > thing.born + 4
        return replace(state, phase=Phase.PENDING) if again else state


@fault("machines", "test_phases_do_not_go_backwards")
class DeletedIsPendingAgain(Machines):
    def state(self, thing):
        state = super().state(thing)
        return replace(state, phase=Phase.PENDING) if state.phase == Phase.DELETING else state


@fault("machines", "test_facts_stay_the_same_while_nothing_changes")
class FactsFlicker(Machines):
    def state(self, thing):
        return replace(super().state(thing), facts={"seen": str(self.client.place.now)})


@fault("machines", "test_user_data_does_not_come_back")
class UserDataIsShown(Machines):
    def create(self, launch, index):
        thing = super().create(launch, index)
        self.client.update(thing.id, user_data=launch.user_data.decode())
        return thing

    def state(self, thing):
        return replace(super().state(thing), facts={"user-data": thing.props.get("user_data", "")})


FAULTS.append(
    Fault(
        "IdentityOfTheProcess",
        "machines",
        "test_the_identity_is_the_same_after_a_restart",
        Parts(identity=lambda account: uuid.uuid4().hex),
    )
)
FAULTS.append(
    Fault(
        "IdentityOfAnyAccount", "machines", "test_another_account_has_another_identity", Parts(identity=lambda account: "ours")
    )
)


# -- machines: deletion


@fault("machines", "test_deleting_what_is_gone_succeeds")
class DeleteRaisesWhenGone(Machines):
    def end(self, ref):
        self.client.owned(ref)
        return super().end(ref)


@fault("machines", "test_deleting_what_never_was_succeeds")
class DeleteRefusesTheUnknown(Machines):
    def end(self, ref):
        try:
            self.client.get(ref.id)
        except NotFound as error:
            return Result(id=ref.id, outcome=Outcome.REFUSED, error=error)
        return super().end(ref)


@fault("machines", "test_delete_answers_one_per_ref_in_order")
class DeleteLeavesOutTheGone(Machines):
    def delete(self, refs):
        there = {t.id for t in self.client.all("machine")[0] if t.ended is None}
        return super().delete([ref for ref in refs if ref.id in there])


@fault("machines", "test_delete_takes_only_what_it_is_told")
class DeleteTakesTheWholeLaunch(Machines):
    def delete(self, refs):
        makers = {ref.mark.maker for ref in refs}
        for thing in self.client.all("machine")[0]:
            if thing.mark.maker in makers:
                self.client.delete(thing.id)
        return super().delete(refs)


@fault("machines", "test_deleting_an_id_under_another_mark_touches_nothing")
class DeleteBelievesTheId(Machines):
    def end(self, ref):
        self.client.delete(ref.id)
        return Result(id=ref.id, outcome=Outcome.MADE)


@fault("machines", "test_a_machine_of_another_installation_is_never_adopted")
class AdoptsByName(Machines):
    def create(self, launch, index):
        for thing in self.client.all("machine")[0]:
            if thing.props["member"] == launch.members[index].name:
                return thing
        return super().create(launch, index)


@fault("machines", "test_a_name_that_somebody_holds_is_taken")
class AdoptsTheSquatter(Machines):
    def create(self, launch, index):
        try:
            squatter = self.client.find("machine", reference.machine_name(launch, index))
        except NotFound:
            return super().create(launch, index)
        self.client.update(squatter.id, labels=label(launch.member_mark(index)))
        return squatter


@fault("machines", "test_acting_on_an_id_under_another_mark_is_not_found")
class ExecuteBelievesTheId(Machines):
    def execute(self, ref, script, stdin, timeout):
        self.client.get(ref.id)
        yield 0


@fault("machines", "test_execute_gives_output_and_the_exit_code")
class ExecuteHasNoExitCode(Machines):
    def execute(self, ref, script, stdin, timeout):
        self.client.owned(ref)
        yield stdin


@fault("machines", "test_the_console_keeps_to_its_limit")
class ConsoleHasNoLimit(Machines):
    def console(self, ref, limit):
        return super().console(ref, 1000)


@fault("machines", "test_a_reboot_keeps_the_machine")
class RebootReplaces(Machines):
    def reboot(self, ref):
        thing = self.client.owned(ref)
        self.client.delete(thing.id)
        self.client.insert("machine", f"{thing.name}-again", thing.labels, thing.zone, member=thing.props["member"])


# -- machines: faults


@fault("machines", "test_a_launch_killed_between_any_two_requests_is_finished_by_its_repeat")
class TheHalfMadeIsNotFinished(Machines):
    def create(self, launch, index):
        try:
            self.client.find("disk", reference.machine_name(launch, index))
        except NotFound:
            return super().create(launch, index)
        raise Unknown("there is a disk already")


@fault("machines", "test_what_a_killed_launch_left_can_be_deleted")
class StraysAreNotObserved(Machines):
    def observe(self, scope):
        return replace(super().observe(scope), strays=())


@fault("machines", "test_what_a_killed_launch_left_can_be_deleted")
class MarkIsPutOnLater(Machines):
    def create(self, launch, index):
        name = reference.machine_name(launch, index)
        thing = self.client.insert("machine", name, "", launch.offer.place, member=launch.members[index].name)
        self.client.update(thing.id, labels=label(launch.member_mark(index)))
        return self.client.get(thing.id)


@fault("machines", "test_a_delete_killed_between_any_two_requests_is_finished_by_its_repeat")
class MarkIsTakenOffFirst(Machines):
    def end(self, ref):
        try:
            self.client.owned(ref)
            self.client.update(ref.id, labels="")
            self.client.delete(ref.id)
        except NotFound:
            pass
        return Result(id=ref.id, outcome=Outcome.MADE)


@fault("machines", "test_a_budget_spent_in_the_middle_hides_nothing")
class RaisesAfterTheFirstMember(Machines):
    def member(self, launch, index, thing):
        try:
            return self.result(thing or self.create(launch, index))
        except (NoCapacity, Taken) as error:
            return Result(id="", outcome=Outcome.REFUSED, error=error)


@fault("machines", "test_a_lost_reply_is_an_unknown_outcome")
class UnknownIsCalledRefused(Machines):
    def member(self, launch, index, thing):
        result = super().member(launch, index, thing)
        return replace(result, outcome=Outcome.REFUSED) if result.outcome == Outcome.UNKNOWN else result


@fault("machines", "test_a_lost_request_is_an_unknown_outcome")
class UnknownIsCalledMade(Machines):
    def member(self, launch, index, thing):
        result = super().member(launch, index, thing)
        return Result(id="", outcome=Outcome.MADE) if result.outcome == Outcome.UNKNOWN else result


@fault("machines", "test_no_capacity_is_said_at_once_and_by_its_name")
class NoCapacityIsCalledNotReady(Machines):
    def create(self, launch, index):
        try:
            return super().create(launch, index)
        except NoCapacity as error:
            raise NotReady("try again later") from error

    def launch(self, launch):
        known = self.known(launch)
        return tuple(self.result(known.get(i) or self.create(launch, i)) for i in range(len(launch.members)))


@fault("machines", "test_room_for_some_is_told_member_by_member")
class SomeAreMadeAndAllAreRefused(Machines):
    def launch(self, launch):
        results = super().launch(launch)
        for result in results:
            if isinstance(result.error, NoCapacity):
                raise result.error
        return results


@fault("machines", "test_a_late_refusal_is_told")
class LateRefusalIsSilent(Machines):
    def state(self, thing):
        return replace(super().state(thing), error=None)

    def result(self, thing):
        result = super().result(thing)
        return replace(result, outcome=Outcome.DEAD) if result.outcome == Outcome.REFUSED else result


@fault("machines", "test_a_launch_that_may_be_undone_is_pending")
class MadeBeforeItIsCertain(Machines):
    def result(self, thing):
        result = super().result(thing)
        return replace(result, outcome=Outcome.MADE) if result.outcome == Outcome.PENDING else result


class SilenceIsEmptiness(Client):
    def all(self, kind):
        return super().all(kind)[0], set()


@fault("machines", "test_a_page_that_failed_is_not_a_shorter_list", part="client")
class FailedPageIsTheEnd(SilenceIsEmptiness):
    pass


@fault("machines", "test_a_place_that_does_not_answer_is_unreachable", part="client")
class UnreachableIsHidden(SilenceIsEmptiness):
    pass


@fault("machines", "test_a_place_that_does_not_answer_is_unreachable")
class OneZoneSilencesAll(Machines):
    def observe(self, scope):
        seen = super().observe(scope)
        if seen.unreachable:
            raise Unknown("the listing is incomplete")
        return seen


class ListingIsFree(Client):
    def all(self, kind):
        context, self.context = self.context, reference.Context(installation="")
        try:
            return super().all(kind)
        finally:
            self.context = context


@fault("machines", "test_every_request_is_charged", part="client")
class ListingIsNotCharged(ListingIsFree):
    pass


class PaysAfterwards(Client):
    def __getattr__(self, name):
        free = Client(self.place, reference.Context(installation=""))

        def call(*args, **kwargs):
            try:
                return getattr(free, name)(*args, **kwargs)
            finally:
                self.context.charge("api", 1)

        return call


@fault("machines", "test_a_spent_budget_stops_the_request", part="client")
class ChargedAfterTheRequest(PaysAfterwards):
    pass


@fault("machines", "test_no_call_waits")
class LaunchSleeps(Machines):
    def launch(self, launch):
        results = super().launch(launch)
        time.sleep(0.01)
        return results


@fault("machines", "test_no_call_waits", longest_call=0.3)
class LaunchWaitsWithoutSleeping(Machines):
    def launch(self, launch):
        results = super().launch(launch)
        running = threading.Lock()
        running.acquire()
        running.acquire(timeout=1.0)
        return results


@fault("machines", "test_threads_may_launch_the_same_at_once")
class LooksThenMakes(CreateIsNotIdempotent):
    """Makes what its look did not show, under a name of no meaning. Two threads that look at once make two."""

    def __init__(self, client):
        super().__init__(client)
        self.meeting = threading.Barrier(4)

    def launch(self, launch):
        known = self.known(launch)
        if not known:
            with suppress(threading.BrokenBarrierError):
                self.meeting.wait(0.2)
        return tuple(self.member(launch, i, known.get(i) or self.another(launch, i)) for i in range(len(launch.members)))


@fault("machines", "test_threads_may_call_anything_at_once")
class BoundToOneThread(Machines):
    def __init__(self, client):
        super().__init__(client)
        self.thread = threading.current_thread()

    def observe(self, scope):
        if threading.current_thread() is not self.thread:
            raise RuntimeError("objects created in a thread can only be used in that same thread")
        return super().observe(scope)


# -- networks, load balancers, volumes: what they have in common


@fault("load_balancers", "test_ensure_again_gives_the_same_one")
class EnsureIsNotIdempotent(LoadBalancers):
    def ensure(self, want):
        return super().ensure(replace(want, name=f"{want.name}-{uuid.uuid4().hex[:6]}"))


@fault("networks", "test_ensure_after_a_restart_gives_the_same_one")
class EnsuredOnlyInMemory(Networks):
    def __init__(self, client):
        super().__init__(client)
        self.suffix = uuid.uuid4().hex[:6]

    def ensure(self, want):
        return super().ensure(replace(want, name=f"{want.name}-{self.suffix}"))


@fault("networks", "test_ensure_killed_between_any_two_requests_is_finished_by_its_repeat")
class HalfANetworkIsNotFinished(Networks):
    def ensure(self, want):
        try:
            firewall = self.client.find("firewall", part_name(want))
        except NotFound:
            return super().ensure(want)
        return self.state(firewall.name, want.mark, firewall)


class GroupsAreInvisible(LoadBalancers):
    def observe(self, scope):
        seen = super().observe(scope)
        return replace(seen, items=tuple(s for s in seen.items if s.phase != Phase.PARTIAL))


@fault("load_balancers", "test_what_a_killed_ensure_left_can_be_deleted")
class HalfMadeIsNotObserved(GroupsAreInvisible):
    pass


@fault("load_balancers", "test_a_delete_killed_between_any_two_requests_is_finished_by_its_repeat")
class HalfDeletedIsNotObserved(GroupsAreInvisible):
    pass


@fault("load_balancers", "test_an_empty_observation_is_the_proof_that_nothing_is_left")
class DeleteLeavesParts(GroupsAreInvisible):
    parts = ("balancer",)


@fault("volumes", "test_a_lost_reply_is_an_unknown_outcome")
class LostReplyIsInvalid(Volumes):
    def ensure(self, want):
        try:
            return super().ensure(want)
        except Unknown as error:
            raise InvalidSpec("the volume could not be made") from error


@fault("networks", "test_it_carries_its_mark_from_the_start")
class NetworkMarkLacksTheCluster(Networks):
    def state(self, name, mark, firewall):
        return super().state(name, replace(mark, cluster=""), firewall)


@fault("volumes", "test_that_of_another_installation_is_neither_observed_nor_adopted")
class VolumeIsAdoptedByName(Volumes):
    def ensure(self, want):
        for thing in self.client.all("volume")[0]:
            if thing.name.startswith(want.name):
                return self.state(thing)
        return super().ensure(want)


@fault("load_balancers", "test_that_of_another_installation_is_neither_observed_nor_adopted", part="client")
class OtherInstallationsBalancersAreObserved(EverybodysThings):
    pass


@fault("volumes", "test_a_scope_of_every_installation_shows_theirs_too")
class EveryInstallationsVolumesAreNone(Volumes):
    def observe(self, scope):
        seen = super().observe(scope)
        return replace(seen, items=tuple(s for s in seen.items if s.ref.mark.installation == scope.installation))


@fault("volumes", "test_deleting_an_id_under_another_mark_touches_nothing")
class VolumeDeleteBelievesTheId(Volumes):
    def delete(self, ref):
        self.client.delete(ref.id)


@fault("networks", "test_a_cluster_scope_shows_that_cluster_only")
class NetworkScopeIsIgnored(Networks):
    def observe(self, scope):
        return super().observe(replace(scope, cluster=None))


@fault("volumes", "test_observe_returns_every_page", part="client")
class VolumesOnTheSecondPageAreMissed(FirstPageOnly):
    pass


@fault("volumes", "test_what_did_not_answer_is_unreachable", part="client")
class SilenceMeansNoVolumes(SilenceIsEmptiness):
    pass


@fault("load_balancers", "test_phases_do_not_go_backwards")
class BalancerIsPendingAgain(LoadBalancers):
    def state(self, balancer, members):
        state = super().state(balancer, members)
        return replace(state, phase=Phase.PENDING) if self.client.place.now > balancer.born + 3 else state


@fault("networks", "test_deleting_what_is_gone_succeeds")
class NetworkDeleteRaisesWhenGone(Networks):
    def delete(self, ref):
        self.client.find("firewall", ref.id)
        super().delete(ref)


@fault("volumes", "test_every_request_is_charged", part="client")
class VolumeListingIsNotCharged(ListingIsFree):
    pass


@fault("networks", "test_a_spent_budget_stops_the_request", part="client")
class NetworkIsChargedAfterwards(PaysAfterwards):
    pass


@fault("networks", "test_no_call_waits")
class EnsureWaitsOnAnEvent(Networks):
    def ensure(self, want):
        state = super().ensure(want)
        threading.Event().wait(0.01)
        return state


@fault("volumes", "test_threads_may_ensure_the_same_at_once")
class VolumeLooksThenMakes(Volumes):
    def __init__(self, client):
        super().__init__(client)
        self.meeting = threading.Barrier(4)

    def ensure(self, want):
        for thing in self.client.all("volume")[0]:
            if thing.mark.same(want.mark):
                return self.state(thing)
        with suppress(threading.BrokenBarrierError):
            self.meeting.wait(0.2)
        return super().ensure(replace(want, name=f"{want.name}-{uuid.uuid4().hex[:6]}"))


# -- networks


@fault("networks", "test_a_running_network_has_a_fabric_and_data")
class NetworkHasNoFabric(Networks):
    def state(self, name, mark, firewall):
        return replace(super().state(name, mark, firewall), fabric="")


@fault("networks", "test_a_named_network_is_used_and_never_deleted")
class TheNamedNetworkIsDeleted(Networks):
    def delete(self, ref):
        for firewall in self.client.all("firewall")[0]:
            if firewall.name == ref.id and firewall.mark.same(ref.mark):
                self.client.delete(firewall.props["network"])
        super().delete(ref)


@fault("networks", "test_deleting_a_network_spares_the_machines_in_it")
class MachinesGoWithTheNetwork(Networks):
    def delete(self, ref):
        networks = {t.id for t in self.client.all("network")[0] if t.name == ref.id}
        for machine in self.client.all("machine")[0]:
            if machine.props["network"] in networks:
                self.client.delete(machine.id)
        super().delete(ref)


# -- load balancers


@fault("load_balancers", "test_addresses_stay_once_they_are_given")
class AddressChanges(LoadBalancers):
    def state(self, balancer, members):
        return replace(super().state(balancer, members), addresses=(f"192.0.2.{len(members)}",))


@fault("load_balancers", "test_observation_says_how_the_members_are")
class MembersAreNotObserved(LoadBalancers):
    def observe(self, scope):
        seen = super().observe(scope)
        return replace(seen, items=tuple(replace(s, members={}) for s in seen.items))


@fault("load_balancers", "test_members_get_traffic")
class MembersAreNeverAdded(LoadBalancers):
    def turned(self, now, wanted):
        return {}


@fault("load_balancers", "test_members_get_traffic")
class MembersHaveOtherKeys(LoadBalancers):
    def state(self, balancer, members):
        state = super().state(balancer, members)
        return replace(state, members={f"i-{key}": said for key, said in state.members.items()})


@fault("load_balancers", "test_a_draining_member_gets_no_new_traffic")
class DrainIsIgnored(LoadBalancers):
    def turned(self, now, wanted):
        return super().turned(now, [replace(member, drain=False) for member in wanted])


@fault("load_balancers", "test_a_draining_member_gets_no_new_traffic")
class DrainIsSaidAndNotDone(LoadBalancers):
    def ensure(self, want):
        draining = {member.key: "draining" for member in want.members if member.drain}
        state = super().ensure(replace(want, members=tuple(replace(member, drain=False) for member in want.members)))
        return replace(state, members={**state.members, **draining})


@fault("load_balancers", "test_a_member_that_is_left_out_gets_no_traffic")
class LeftOutMembersStay(LoadBalancers):
    def turned(self, now, wanted):
        wish = {member.key for member in wanted}
        return {**super().turned(now, wanted), **{key: old for key, old in now.items() if key not in wish}}


@fault("load_balancers", "test_a_member_that_is_left_out_gets_no_traffic")
class OneLeavesAllLeave(LoadBalancers):
    def turned(self, now, wanted):
        return super().turned(now, () if len(wanted) < len(now) else wanted)


# -- volumes


@fault("volumes", "test_a_volume_says_its_size_device_and_reach")
class DeviceIsNotKnown(Volumes):
    def state(self, thing):
        return replace(super().state(thing), device="")


@fault("volumes", "test_a_volume_grows_and_never_shrinks")
class VolumeShrinks(Volumes):
    def ensure(self, want):
        thing = self.client.make("volume", part_name(want), want.mark, want.place, size=want.size, machine="")
        self.client.update(thing.id, size=want.size)
        return self.state(self.client.get(thing.id))


@fault("volumes", "test_a_volume_can_be_marked_to_be_kept")
class KeepIsForgotten(Volumes):
    def ensure(self, want):
        return super().ensure(replace(want, mark=replace(want.mark, keep=False)))


@fault("volumes", "test_deleting_a_machine_spares_its_volumes", part="machines")
class VolumesGoWithTheMachine(Machines):
    def end(self, ref):
        for volume in self.client.all("volume")[0]:
            if volume.props["machine"] == ref.id:
                self.client.update(volume.id, machine="")
                self.client.delete(volume.id)
        return super().end(ref)


@fault("volumes", "test_a_volume_is_attached_and_detached")
class DetachDoesNothing(Volumes):
    def detach(self, volume, machine):
        self.client.owned(volume)


@fault("volumes", "test_a_volume_attached_elsewhere_is_taken")
class AttachSteals(Volumes):
    def attach(self, volume, machine):
        self.client.update(volume.id, machine="")
        super().attach(volume, machine)


@fault("volumes", "test_the_limit_of_a_machine_is_no_capacity")
class LimitIsCalledNotReady(Volumes):
    def attach(self, volume, machine):
        try:
            super().attach(volume, machine)
        except NoCapacity as error:
            raise NotReady("still attaching") from error


@fault("volumes", "test_deleting_an_attached_volume_is_blocked")
class DeleteDetachesByForce(Volumes):
    def delete(self, ref):
        try:
            self.client.owned(ref)
            self.client.update(ref.id, machine="")
        except NotFound:
            pass
        super().delete(ref)


@fault("volumes", "test_attaching_under_another_mark_is_not_found")
class AttachBelievesTheId(Volumes):
    def attach(self, volume, machine):
        self.client.update(volume.id, machine=machine.id)


@fault("volumes", "test_attach_and_detach_do_not_wait")
class DetachSleeps(Volumes):
    def detach(self, volume, machine):
        super().detach(volume, machine)
        time.sleep(0.01)
