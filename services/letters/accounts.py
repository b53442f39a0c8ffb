"""Letters about the account itself.

Codes, and links that prove something, are secret params: ``code``, and ``path`` of the button.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import T
from services.letters.base import Kind

_CODE = (("code", "482913"),)
_ADDRESS = (("email", "dilnoza@example.uz"),)

KINDS: Mapping[str, Kind] = {
    "confirm_email": Kind(
        subject=T("Confirm your e-mail"),
        text=T(
            "Your code: {code}\n\n"
            "Enter it in the panel, or press the button. Both work for an hour, and once.\n\n"
            "If you have no account with us, ignore this letter: somebody has mistyped their address."
        ),
        button=T("Confirm this e-mail"),
        example=_CODE,
    ),
    "change_email": Kind(
        subject=T("Confirm your new e-mail"),
        text=T(
            "Your code: {code}\n\n"
            "Enter it in the panel, or press the button: from then on you sign in with this address. Both work for an hour, and "
            "once.\n\n"
            "If you have not asked for this, ignore this letter: nothing changes."
        ),
        button=T("Confirm this e-mail"),
        example=_CODE,
    ),
    "email_changed": Kind(
        subject=T("The e-mail of your account has changed"),
        text=T(
            "The e-mail of your account is now {email}. Letters go there, and you sign in with it.\n\n"
            "If this was not you, write to whoever runs this service at once."
        ),
        telegram=T("The e-mail of your account is now {email}. If this was not you, change your password at once."),
        example=_ADDRESS,
    ),
    "reset": Kind(
        subject=T("Choose a new password"),
        text=T(
            "Press the button to choose a new password. It works for an hour, and once.\n\n"
            "If you have not asked for this, ignore this letter: your password stays as it is."
        ),
        button=T("Choose a new password"),
    ),
    "password_changed": Kind(
        subject=T("Your password has changed"),
        text=T(
            "The password of your account was changed, and all devices were signed out.\n\n"
            "If this was not you, choose a new one at once: press “Forgot the password?” on the sign-in page."
        ),
        telegram=T(
            "The password of your account was changed, and all devices were signed out. If this was not you, choose a new one "
            "at once: /panel"
        ),
    ),
    "password_reset_alone": Kind(
        subject=T("Your password has changed"),
        text=T(
            "You have chosen a new password with the link in our letter. This address had never been confirmed before, so "
            "whoever registered with it may have been somebody else. To be safe we have closed every other way into the "
            "account: devices, API tokens, two-step sign-in, the phone number and the team.\n\n"
            "Bots, documents and conversations are untouched. What was yours you can set up anew in the settings."
        ),
    ),
    "address_gone": Kind(
        subject=T("An e-mail was removed from your account"),
        text=T(
            "{email} was never confirmed in your account, and whoever reads its mail has now shown that it is theirs. It was "
            "removed from your account, which stays as it is.\n\n"
            "If that was you: sign in with this e-mail, open the settings and press “Connect Telegram”. The two accounts become "
            "one."
        ),
        telegram=T(
            "{email} was never confirmed in your account, and whoever reads its mail has now shown that it is theirs. It was "
            "removed from your account, which stays as it is. If that was you: sign in to the panel with this e-mail, open the "
            "settings and press “Connect Telegram”. The two accounts become one."
        ),
        example=_ADDRESS,
    ),
    "address_parted": Kind(
        subject=T("Your e-mail has an account of its own"),
        text=T(
            "You have chosen a password for {email}. An account that is used by Telegram had named this address without ever "
            "confirming it. It does not have it any more, and you have a new account with nothing in it.\n\n"
            "If that account is yours: sign in, open the settings and press “Connect Telegram”. The two become one, with all "
            "bots."
        ),
        example=_ADDRESS,
    ),
    "join": Kind(
        subject=T("Join your two accounts"),
        text=T(
            "Your code: {code}\n\n"
            "Somebody who is signed in by Telegram wants to join that account and yours into one. If this is you, enter the code "
            "in the panel; it works for an hour, and once. All bots, documents and conversations of both stay.\n\n"
            "If this is not you, ignore this letter and give the code to nobody: whoever has it gets into your account."
        ),
        example=_CODE,
    ),
    "joined": Kind(
        subject=T("Your Telegram is connected"),
        text=T(
            "A Telegram account is now connected to your account: its notices come there, and /panel there signs you in.\n\n"
            "If this was not you, change your password at once and write to whoever runs this service."
        ),
    ),
    "telegram_disconnected": Kind(
        subject=T("Telegram is no longer connected to your account"),
        text=T(
            "The Telegram account that was connected to your account gets no more notices and cannot sign in to it any more.\n\n"
            "If this was not you, change your password at once and connect Telegram again."
        ),
    ),
    "second_factor_on": Kind(
        subject=T("Two-step sign-in is on"),
        text=T(
            "From now on, signing in also takes a code from your phone. Keep the recovery codes where you find them without the "
            "phone.\n\n"
            "If this was not you, write to whoever runs this service at once."
        ),
        telegram=T("Two-step sign-in is on: signing in to the panel also takes a code from your phone."),
    ),
    "second_factor_off": Kind(
        subject=T("Two-step sign-in is off"),
        text=T(
            "Signing in no longer takes a code from your phone.\n\n"
            "If this was not you, change your password and turn two-step sign-in on again."
        ),
        telegram=T(
            "Two-step sign-in is off: signing in to the panel no longer takes a code. If this was not you, change your password."
        ),
    ),
    "deletion": Kind(
        subject=T("Your account will be deleted on {day}"),
        text=T(
            "You asked for your account to be deleted. Your bots have stopped. On {day} everything goes for good: bots, "
            "documents, conversations, customers and files.\n\n"
            "Until then you can take it back: sign in and press “Keep my account”."
        ),
        telegram=T(
            "Your account will be deleted on {day}, with all bots, documents and conversations. Your bots have stopped. Until "
            "then you can take it back: /panel"
        ),
        button=T("Keep my account"),
        example=(("day", {"day": "2026-12-06T12:00:00+00:00"}),),
    ),
}
