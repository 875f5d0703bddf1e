"""Which topics of a recording are the cameras and the LiDAR, found by type and name or named by the user."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# what image topics end with beside the camera's own name
TAIL = re.compile(r"image(_(raw|color|colour|mono|rect|rectified|compressed))*|compressed|raw")
RECTIFIED = re.compile(r"(^|[/_])rect(ified)?([/_]|$)")


@dataclass(frozen=True)
class Offer:
    """A topic that could be chosen: how many messages it has, their bytes in all, whether it holds distances only."""

    messages: int
    bytes: int
    depth: bool = False


@dataclass(frozen=True)
class Choice:
    """The topics that are read, and of the others why not.

    Attributes:
        cameras: camera name -> image topic.
        lidar: topic of the sweeps, or None.
        left_out: topic -> reason.
    """

    cameras: dict[str, str]
    lidar: str | None
    left_out: dict[str, str]


def base_of(topic: str) -> str:
    """An image topic without its tail: ``/camera/front/image_raw/compressed`` -> ``/camera/front``."""
    parts = topic.strip("/").split("/")
    while parts and TAIL.fullmatch(parts[-1]):
        parts.pop()
    return "/" + "/".join(parts)


def is_rectified(topic: str) -> bool:
    """Whether a topic's name says that its images are rectified."""
    return RECTIFIED.search(topic) is not None


def choose(images: Mapping[str, Offer], clouds: Mapping[str, Offer], named: Sequence[str] = ()) -> Choice:
    """The topics to read: those that are named, or else those that are found.

    One topic a camera: as taken rather than rectified, uncompressed rather than compressed. One LiDAR: of the topics
    with at least half as many messages as the busiest, the one with most bytes a message.

    Raises:
        ValueError: a named topic that is not there, or several clouds are named.
    """
    known = sorted((*images, *clouds))
    for topic in named:
        if topic not in known:
            near = difflib.get_close_matches(topic, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
            raise ValueError(f"topic {topic!r} has no images and no points; {hint}")
    named_clouds = [topic for topic in named if topic in clouds]
    if len(named_clouds) > 1:
        raise ValueError(f"topics {', '.join(named_clouds)} are all point clouds; name one, sweeps are not merged")
    if named:
        left_out = {topic: "others were named" for topic in known if topic not in named}
        cameras = _cameras([topic for topic in named if topic in images], left_out)
        return Choice(cameras, named_clouds[0] if named_clouds else None, left_out)
    left_out = {topic: "holds no colours" for topic, offer in images.items() if offer.depth}
    cameras, lidar = _cameras([topic for topic in images if topic not in left_out], left_out), _lidar(clouds)
    left_out |= {topic: f"sweeps are read from {lidar}" for topic in clouds if topic != lidar}
    return Choice(cameras, lidar, left_out)


def _cameras(topics: Sequence[str], left_out: dict[str, str]) -> dict[str, str]:
    by_base: dict[str, str] = {}
    for topic in sorted(topics, key=lambda t: (is_rectified(t), "compressed" in t, len(t), t)):
        first = by_base.setdefault(base_of(topic), topic)
        if first != topic:
            left_out[topic] = f"same camera as {first}"
    last = [base.rsplit("/", 1)[-1] for base in by_base]
    names = {}
    for base in sorted(by_base):
        name = base.rsplit("/", 1)[-1]
        names[(name if last.count(name) == 1 else base.strip("/").replace("/", "_")) or "camera"] = by_base[base]
    return names


def _lidar(clouds: Mapping[str, Offer]) -> str | None:
    if not clouds:
        return None
    busiest = max(offer.messages for offer in clouds.values())
    steady = sorted(topic for topic, offer in clouds.items() if 2 * offer.messages >= busiest)
    return max(steady, key=lambda topic: clouds[topic].bytes / clouds[topic].messages)


def calibration_topic(image_topic: str, frame: str, calibrations: Mapping[str, str]) -> str | None:
    """The topic that calibrates an image topic, of those given with the frame of their messages.

    The one beside the image (``/camera/front/camera_info``), else the only one that speaks of the image's frame.
    """
    places = (base_of(image_topic), image_topic)
    beside = sorted(topic for topic in calibrations if (topic.rsplit("/", 1)[0] or "/") in places)
    if beside:
        return beside[0]
    same = [topic for topic, other in calibrations.items() if frame and other == frame]
    return same[0] if len(same) == 1 else None
