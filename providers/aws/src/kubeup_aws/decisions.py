"""AWS's error codes as decisions of the core: named sets, walked by a test. Pure; called by `client.py` alone.

A code that stands in none of them is judged by its HTTP status: 5xx is Unknown, as the call may have had its effect; anything else is
InvalidSpec, as the same request would be refused again.
"""

from __future__ import annotations

from kubeup_core import (
    Blocked,
    Denied,
    InvalidSpec,
    NoCapacity,
    NotFound,
    NotReady,
    Place,
    SupplierError,
    Taken,
    Unknown,
)

THROTTLED = {
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
    "RequestThrottledException", "TooManyRequestsException", "EC2ThrottledException", "BandwidthLimitExceeded", "SlowDown",
}  # fmt: skip

NO_CAPACITY = {
    "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity", "InsufficientCapacity",
    "InsufficientCapacityOnHost", "UnfulfillableCapacity", "ReservationCapacityExceeded", "Unsupported", "SpotMaxPriceTooLow",
}  # fmt: skip
"""None of this type, in this zone, at this price model. `Unsupported` is EC2's word for a type that a zone does not have."""

NO_ROOM_IN_ZONE = {"InsufficientFreeAddressesInSubnet", "InsufficientVolumeCapacity", "InsufficientAddressCapacity"}

QUOTA = {
    "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VolumeLimitExceeded", "MaxIOPSLimitExceeded",
    "AddressLimitExceeded", "VpcLimitExceeded", "SubnetLimitExceeded", "SecurityGroupLimitExceeded", "RouteLimitExceeded",
    "RulesPerSecurityGroupLimitExceeded", "SecurityGroupsPerInterfaceLimitExceeded", "InternetGatewayLimitExceeded",
    "NetworkInterfaceLimitExceeded", "TooManyLoadBalancers", "TooManyTargetGroups", "TooManyTargets", "TooManyListeners",
    "TooManyRegistrationsForTargetId", "TagLimitExceeded", "TooManyTags",
}  # fmt: skip
"""Only a person can raise it, or make room. And every other code that ends in `LimitExceeded`."""

SERVICE_LINKED_ROLE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"

FULL_MACHINE = {"AttachmentLimitExceeded"}

DENIED = {
    "UnauthorizedOperation", "AuthFailure", "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException",
    "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException",
    "IncompleteSignature", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "OptInRequired", "Blocked",
    "PendingVerification", "NotAuthorized", "InvalidToken", "InvalidAccessKeyId", SERVICE_LINKED_ROLE,
}  # fmt: skip

STILL_USED = {
    "DependencyViolation", "VolumeInUse", "ResourceInUse", "InvalidIPAddress.InUse", "InvalidNetworkInterface.InUse",
    "InvalidGroup.InUse", "OperationNotPermitted",
}  # fmt: skip
"""OperationNotPermitted is a deletion protection that somebody switched on."""

CHANGING = {
    "IncorrectState", "IncorrectInstanceState", "IncorrectModificationState", "VolumeModificationRateExceeded", "InvalidVpcState",
    "ConcurrentTagAccess", "OperationInProgress", "ConcurrentModification", "PriorRequestComplete", "PriorRequestNotComplete",
    "InvalidInstance.NotRunning", "SubnetNotFound", "InvalidSecurityGroup",
}  # fmt: skip
"""Of another service's subnets and groups a balancer hears a moment after they were made."""

TAKEN = {
    "InvalidGroup.Duplicate", "DuplicateLoadBalancerName", "DuplicateTargetGroupName", "DuplicateListener",
    "InvalidSubnet.Conflict", "Resource.AlreadyAssociated", "RouteAlreadyExists", "InvalidPermission.Duplicate",
}  # fmt: skip

NOT_FOUND = {
    "InvalidInstanceID.Malformed", "InvalidParameterValue.VolumeNotFound", "LoadBalancerNotFound", "TargetGroupNotFound",
    "ListenerNotFound", "ParameterNotFound", "Gateway.NotAttached", "InvalidVolumeID.Malformed", "InvalidAttachment.NotFound",
    "InvalidAMIID.Malformed", "InvalidAMIID.Unavailable",
}  # fmt: skip
"""And every code that ends in `.NotFound`."""

YOUNG = {"InvalidSubnetID.NotFound", "InvalidGroup.NotFound", "InvalidGroupId.NotFound", "InvalidSecurityGroupID.NotFound"}
"""What a launch names and RunInstances does not know yet, in the seconds after it was made."""

SAME_TOKEN = {"IdempotentParameterMismatch", "IdempotentInstanceTerminated"}
"""An earlier call with this token landed: what it made is looked up. Both are Unknown with their code, for `machines.py`."""

SILENT = {"InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout", "RequestTimeoutException"}

REMEDIES = {
    "quota": "ask for a higher limit (Service Quotas), or make room",
    "denied": "check the credentials and the policy: docs/how-to/aws-iam-policy.json is what kubeup needs",
    "role": "allow iam:CreateServiceLinkedRole, or once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
}


def decided(
    what: str, code: str, message: str, *, status: int = 400, request_id: str = "", scope: Place | None = None
) -> SupplierError:
    """The decision that an answer of AWS asks for. what: the action, for people. scope: the offer of a launch."""
    text = f"{what}: {message or code}"
    if code in THROTTLED:
        return NotReady(text, throttled=True, code=code, request_id=request_id)
    if code in NO_CAPACITY or code in FULL_MACHINE:
        return NoCapacity(text, scope=scope, code=code, request_id=request_id)
    if code in NO_ROOM_IN_ZONE:
        return NoCapacity(text, scope=Place(place=scope.place) if scope else None, code=code, request_id=request_id)
    if code in QUOTA or code.endswith("LimitExceeded"):
        whole = Place(spot=scope.spot) if scope else None
        return NoCapacity(text, scope=whole, person=True, code=code, request_id=request_id, remedy=REMEDIES["quota"])
    if code in DENIED:
        remedy = REMEDIES["role" if code == SERVICE_LINKED_ROLE else "denied"]
        return Denied(text, code=code, request_id=request_id, remedy=remedy)
    if code in STILL_USED:
        return Blocked(text, code=code, request_id=request_id)
    if code in CHANGING:
        return NotReady(text, code=code, request_id=request_id)
    if code in TAKEN:
        return Taken(text, code=code, request_id=request_id)
    if code in NOT_FOUND or code.endswith(".NotFound"):
        return NotFound(text, code=code, request_id=request_id)
    if code in SILENT or code in SAME_TOKEN or status >= 500:
        return Unknown(text, code=code, request_id=request_id)
    return InvalidSpec(text, code=code, request_id=request_id)


def is_young(error: SupplierError) -> bool:
    """Whether a refused launch only came too soon after what it names. A profile is told by the message alone."""
    return error.code in YOUNG or "iam instance profile" in error.message.lower()
